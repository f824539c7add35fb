"""The U-Net of DDPM (Ho et al., arXiv 2006.11239, appendix B), that of google/ddpm-cifar10-32 in diffusers' format."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fewstep.nets.embedding import ExtraEmbedding, PositionalEmbedding, beside, told, zero
from fewstep.nets.rowwise import Linear, Rowwise, SiLU, silu


class DDPMUNet(Rowwise):
    """Residual U-Net whose sums aren't rescaled: strided convolutions halve, and attention follows every block.

    forward: x [B, C, H, W], c_noise [B], label [B, label_dim], extra [B, extra_dim], maps [B, maps, H, W],
        augment [B, augment_dim] -> like x, or with `out_channels` in place of C. The output starts at zero.

    The options are those of `fewstep.nets.unet.UNet`; at the defaults it has 35.7 M parameters for 3×32×32. Attention
    has one head and stands between the two blocks in the middle, too. A label is added to what the embedding's layers
    give, as in diffusers, and an augmentation to what they take, as in EDM.
    Raises ValueError if H or W cannot be halved len(multipliers) - 1 times, or the channels not be split into groups.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int = 128,
        multipliers: tuple[int, ...] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (16,),
        dropout: float = 0.1,
        label_dim: int = 0,
        extra_dim: int = 0,
        maps: int = 0,
        out_channels: int | None = None,
        augment_dim: int = 0,
    ):
        super().__init__()
        last = len(multipliers) - 1
        if len(shape) != 3 or any(side % 2**last for side in shape[1:]):
            raise ValueError(f"a U-Net of {last + 1} levels cannot halve samples of shape {tuple(shape)}")
        width, groups, widths = 4 * channels, groups_of(channels), [channels * m for m in multipliers]
        self.embed = Embedding(channels, width, label_dim, extra_dim, augment_dim)

        def block(cin: int, cout: int, level: int, attend: bool | None = None) -> Block:
            attend = shape[1] >> level in attention if attend is None else attend
            return Block(cin, cout, width, groups, attend, dropout)

        self.stem = nn.Conv2d(shape[0] + maps, channels, 3, padding=1)
        self.down, skips = nn.ModuleList(), [channels]
        for level, w in enumerate(widths):
            if level:
                self.down.append(Halve(skips[-1]))
                skips.append(skips[-1])
            for _ in range(blocks):
                self.down.append(block(skips[-1], w, level))
                skips.append(w)
        c = widths[-1]
        self.middle = nn.ModuleList([block(c, c, last, attend=True), block(c, c, last, attend=False)])
        self.up = nn.ModuleList()
        for level, w in reversed(list(enumerate(widths))):
            if level < last:
                self.up.append(Double(c))
            for _ in range(blocks + 1):
                self.up.append(block(c + skips.pop(), w, level))
                c = w
        self.out_norm = nn.GroupNorm(groups, c, eps=1e-6)
        self.out = zero(nn.Conv2d(c, out_channels or shape[0], 3, padding=1))

    def forward(self, x, c_noise, label=None, extra=None, maps=None, augment=None) -> torch.Tensor:
        embedding = self.embed(x, c_noise, label, extra, augment)
        states = [self.stem(beside(x, maps))]
        for block in self.down:
            states.append(block(states[-1], embedding))
        h = states[-1]
        for block in self.middle:
            h = block(h, embedding)
        for block in self.up:
            h = block(h if isinstance(block, Double) else torch.cat([h, states.pop()], dim=1), embedding)
        return self.out(silu(self.out_norm(h)))

    @property
    def bottleneck(self) -> nn.Module:
        """The block whose output is the lowest level's last state, [B, C, H', W']."""
        return self.middle[-1]


class Embedding(nn.Module):
    """c_noise [B], label, extra and augment as one vector [B, width], after SiLU; sines stand before cosines.

    What is None adds nothing. Raises ValueError for a condition that the net was built without, or of another width.
    """

    def __init__(self, channels: int, width: int, label_dim: int, extra_dim: int, augment_dim: int):
        super().__init__()
        self.time = PositionalEmbedding(channels, endpoint=True, saved=False)
        self.mlp = nn.Sequential(Linear(channels, width), SiLU(), Linear(width, width))
        self.label_dim, self.augment_dim = label_dim, augment_dim
        self.label = Linear(label_dim, width, bias=False) if label_dim else None
        if label_dim:
            nn.init.normal_(self.label.weight)  # each column is the embedding of a class
        self.augment = Linear(augment_dim, channels, bias=False) if augment_dim else None
        self.extra = ExtraEmbedding(extra_dim, width)

    def forward(self, x, c_noise, label=None, extra=None, augment=None) -> torch.Tensor:
        """The embedding in the dtype and for the batch of x [B, …]."""
        waves = self.time(c_noise.reshape(-1).expand(len(x)))
        h = waves.roll(waves.shape[1] // 2, dims=1).to(x.dtype)
        if augment is not None:
            h = h + self.augment(told("augment", augment, h, self.augment_dim))
        h = self.mlp(h)
        if label is not None:
            h = h + self.label(told("label", label, h, self.label_dim))
        return silu(self.extra(h, extra))


class Block(nn.Module):
    """h + conv(SiLU(norm(conv(SiLU(norm(h))) + linear(embedding)))), with self-attention behind it where `attend` says.

    forward: h [B, cin, H, W], embedding [B, width] -> [B, cout, H, W].
    """

    def __init__(self, cin: int, cout: int, width: int, groups: int, attend: bool, dropout: float):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, cin, eps=1e-6), nn.Conv2d(cin, cout, 3, padding=1)
        self.shift = Linear(width, cout)
        self.norm2, self.conv2 = nn.GroupNorm(groups, cout, eps=1e-6), zero(nn.Conv2d(cout, cout, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()
        self.attention = Attention(cout, groups) if attend else nn.Identity()

    def forward(self, h, embedding) -> torch.Tensor:
        r = self.conv1(silu(self.norm1(h))) + self.shift(embedding)[:, :, None, None]
        return self.attention(self.skip(h) + self.conv2(self.dropout(silu(self.norm2(r)))))


class Attention(nn.Module):
    """Residual self-attention over the pixels with one head. forward: [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(groups, channels, eps=1e-6), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, h) -> torch.Tensor:
        # [B, 3, 1, pixels, C], split over the second axis; a head of its own axis chooses the fused kernels.
        q, k, v = self.qkv(self.norm(h)).reshape(len(h), 3, 1, h.shape[1], -1).transpose(3, 4).unbind(1)
        return h + self.out(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(h.shape))


class Halve(nn.Module):
    """A strided convolution that pads on the right and below only, as TensorFlow's does."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, h, embedding) -> torch.Tensor:
        return self.conv(F.pad(h, (0, 1, 0, 1)))


class Double(nn.Module):
    """Each pixel four times, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h, embedding) -> torch.Tensor:
        return self.conv(F.interpolate(h, scale_factor=2, mode="nearest"))


def groups_of(channels: int) -> int:
    """Groups of every GroupNorm in a net of this base width: 32, or fewer where there would be less than 4 channels."""
    groups = min(32, channels // 4)
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be split into groups; give a multiple of {max(4, groups)}")
    return groups
