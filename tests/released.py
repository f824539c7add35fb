"""Small networks with random weights in the layouts of released checkpoints, independent of the readers' code."""

import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn


class Layers(nn.Module):
    """Layers by the names that score_sde gives them."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


def norm(c):
    return nn.GroupNorm(min(c // 4, 32), c, eps=1e-6)


class NIN(nn.Module):
    """A linear map of each pixel's channels."""

    def __init__(self, c):
        super().__init__()
        self.W, self.b = nn.Parameter(torch.randn(c, c) / math.sqrt(c)), nn.Parameter(torch.randn(c))

    def forward(self, x):
        return torch.einsum("bchw,cd->bdhw", x, self.W) + self.b[:, None, None]


class DDPMpp(nn.Module):
    """score_sde's DDPM++ (arXiv 2011.13456, App. H): `all_modules` in the order in which they run.

    What each module is, is kept beside them: res, down, up, attention, or what the ends need.
    """

    def __init__(self, channels=3, width=8, multipliers=(1, 2, 2), blocks=2, attention=(1,)):
        super().__init__()
        self.register_buffer("sigmas", torch.ones(3))  # of no use to this network, as in the original
        self.width, self.blocks, self.levels, self.attends = width, blocks, len(multipliers), attention
        modules = [nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)]
        modules.append(nn.Conv2d(channels, width, 3, padding=1))
        skips, c = [width], width
        for level, m in enumerate(multipliers):
            for _ in range(blocks):
                modules += [self.res(c, width * m), *self.attention(width * m, level)]
                c = width * m
                skips.append(c)
            if level < self.levels - 1:
                modules.append(self.res(c, c, resamples=True))
                skips.append(c)
        modules += [self.res(c, c), self.attention(c), self.res(c, c)]
        modules[-2:-1] = modules[-2]
        for level in reversed(range(self.levels)):
            for _ in range(blocks + 1):
                modules.append(self.res(c + skips.pop(), width * multipliers[level]))
                c = width * multipliers[level]
            modules += self.attention(c, level)
            if level > 0:
                modules.append(self.res(c, c, resamples=True))
        modules += [norm(c), nn.Conv2d(c, channels, 3, padding=1)]
        self.all_modules = nn.ModuleList(modules)

    def res(self, cin, cout, resamples=False):
        layers = {"GroupNorm_0": norm(cin), "Conv_0": nn.Conv2d(cin, cout, 3, padding=1)}
        layers |= {"Dense_0": nn.Linear(4 * self.width, cout), "GroupNorm_1": norm(cout)}
        layers |= {"Conv_1": nn.Conv2d(cout, cout, 3, padding=1)}
        return Layers(**layers, **({"Conv_2": nn.Conv2d(cin, cout, 1)} if cin != cout or resamples else {}))

    def attention(self, c, level=None):
        one = Layers(GroupNorm_0=norm(c), **{f"NIN_{i}": NIN(c) for i in range(4)})
        return [one] if level is None or level in self.attends else []

    def forward(self, x, c_noise):
        modules, half = iter(self.all_modules), self.width // 2
        f = 10_000 ** (-torch.arange(half) / (half - 1))
        angles = c_noise[:, None] * f
        first, second = next(modules), next(modules)
        temb = F.silu(second(F.silu(first(torch.cat([angles.sin(), angles.cos()], dim=1)))))

        def block(h, resample=lambda h: h):
            m = next(modules)
            r = m.Conv_0(resample(F.silu(m.GroupNorm_0(h)))) + m.Dense_0(temb)[:, :, None, None]
            r = m.Conv_1(F.silu(m.GroupNorm_1(r)))
            return ((m.Conv_2(resample(h)) if hasattr(m, "Conv_2") else h) + r) / math.sqrt(2)

        def attend(h):
            m, (b, c, height, width) = next(modules), h.shape
            q, k, v = (getattr(m, f"NIN_{i}")(m.GroupNorm_0(h)).flatten(2) for i in range(3))
            weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(c), dim=-1)
            return (h + m.NIN_3((v @ weights.transpose(1, 2)).reshape(b, c, height, width))) / math.sqrt(2)

        states = [next(modules)(x)]
        for level in range(self.levels):
            for _ in range(self.blocks):
                h = block(states[-1])
                states.append(attend(h) if level in self.attends else h)
            if level < self.levels - 1:
                states.append(block(states[-1], lambda h: F.avg_pool2d(h, 2)))
        h = block(attend(block(states[-1])))
        for level in reversed(range(self.levels)):
            for _ in range(self.blocks + 1):
                h = block(torch.cat([h, states.pop()], dim=1))
            h = attend(h) if level in self.attends else h
            h = block(h, lambda h: F.interpolate(h, scale_factor=2)) if level > 0 else h
        last_norm, last = next(modules), next(modules)
        return last(F.silu(last_norm(h)))

    def save(self, path):
        """As score_sde's trainer does: raw weights of the wrapped model, and averages without names."""
        raw = {f"module.{name}": torch.zeros_like(tensor) for name, tensor in self.state_dict().items()}
        ema = {"decay": 0.999, "num_updates": 3, "shadow_params": [p.detach() for p in self.parameters()]}
        torch.save({"optimizer": {"state": {}}, "model": raw, "ema": ema, "step": 7}, path)


def ddpmpp(seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DDPMpp(**options)


def unet2d(folder, channels=1, side=8, width=8, seed=0, **changed):
    """diffusers' files of a UNet2DModel with two levels of one block, attention on the second; the state dict."""
    rng, state = torch.Generator().manual_seed(seed), {}

    def layer(name, *shape):
        state[f"{name}.weight"] = torch.randn(shape, generator=rng) / 8
        state[f"{name}.bias"] = torch.randn(shape[:1], generator=rng) / 8

    def res(name, cin, cout):
        layer(f"{name}.norm1", cin), layer(f"{name}.conv1", cout, cin, 3, 3)
        layer(f"{name}.time_emb_proj", cout, 4 * width), layer(f"{name}.norm2", cout)
        layer(f"{name}.conv2", cout, cout, 3, 3)
        if cin != cout:
            layer(f"{name}.conv_shortcut", cout, cin, 1, 1)

    def attention(name, c):
        layer(f"{name}.group_norm", c)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            layer(f"{name}.{part}", c, c)

    one, two = width, 2 * width
    layer("conv_in", one, channels, 3, 3)
    layer("time_embedding.linear_1", 4 * width, one), layer("time_embedding.linear_2", 4 * width, 4 * width)
    res("down_blocks.0.resnets.0", one, one), layer("down_blocks.0.downsamplers.0.conv", one, one, 3, 3)
    res("down_blocks.1.resnets.0", one, two), attention("down_blocks.1.attentions.0", two)
    res("mid_block.resnets.0", two, two), attention("mid_block.attentions.0", two), res("mid_block.resnets.1", two, two)
    for i, cin in enumerate((two + two, two + one)):
        res(f"up_blocks.0.resnets.{i}", cin, two), attention(f"up_blocks.0.attentions.{i}", two)
    layer("up_blocks.0.upsamplers.0.conv", two, two, 3, 3)
    for i, cin in enumerate((two + one, one + one)):
        res(f"up_blocks.1.resnets.{i}", cin, one)
    layer("conv_norm_out", one), layer("conv_out", channels, one, 3, 3)
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": side,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": [one, two],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": None,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "norm_num_groups": width // 4,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config | changed))
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    return state
