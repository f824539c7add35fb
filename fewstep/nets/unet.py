"""A convolutional U-Net after DDPM++ (Song et al. 2021) as EDM configures it (Karras et al. 2022, App. F.2)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from fewstep.nets.embedding import ConditionEmbedding, zero
from fewstep.nets.rowwise import Linear, SiLU, silu

SKIP_SCALE = math.sqrt(0.5)  # keeps the variance of a sum of two unit-variance branches at one


class UNet(nn.Module):
    """Residual U-Net: one resolution a multiplier, `blocks` residual blocks at each, halving and doubling in between.

    forward: x [B, C, H, W], c_noise [B], label [B, label_dim], extra [B, extra_dim] -> like x.
    The output starts at zero.

    channels: width of the first level; level i has channels * multipliers[i].
    attention: resolutions (H in pixels) with self-attention of `heads` heads: after every block on the way down and
        after the last one on the way up.
    middle_attention: self-attention after the first of the two blocks in the middle, as EDM has at 32×32.
    adaptive: the embedding scales and shifts each block's second norm (Dhariwal & Nichol 2021, ADM); otherwise it is
        added before that norm, as in DDPM++ and EDM's CIFAR-10 network.
    embedding_multiplier: width of the embedding's two layers in units of `channels`.
    Raises ValueError if H or W cannot be halved len(multipliers) - 1 times.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int = 16,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (),
        middle_attention: bool = False,
        heads: int = 1,
        embedding: str = "positional",
        embedding_multiplier: int = 4,
        adaptive: bool = True,
        dropout: float = 0.0,
        label_dim: int = 0,
        extra_dim: int = 0,
    ):
        super().__init__()
        if len(shape) != 3 or any(side % 2 ** (len(multipliers) - 1) for side in shape[1:]):
            raise ValueError(f"a U-Net of {len(multipliers)} levels cannot halve samples of shape {tuple(shape)}")
        self.embed = ConditionEmbedding(channels, embedding, label_dim, extra_dim)
        width = channels * embedding_multiplier
        self.mlp = nn.Sequential(Linear(channels, width), SiLU(), Linear(width, width), SiLU())

        def block(cin, cout, level, resample=None, attend=None):
            attend = shape[1] >> level in attention if attend is None else attend
            return Block(cin, cout, width, resample, adaptive, heads if attend else 0, dropout)

        widths = [channels * m for m in multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(shape[0], channels, 3, padding=1)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        skips, c = [channels], channels
        for level, w in enumerate(widths):
            if level:
                self.encoder.append(block(c, c, level, "down", attend=False))
                skips.append(c)
            for _ in range(blocks):
                self.encoder.append(block(c, w, level))
                skips.append(c := w)
        middle = middle_attention or None
        self.middle = nn.ModuleList([block(c, c, last, attend=middle), block(c, c, last, attend=False)])
        for level, w in reversed(list(enumerate(widths))):
            if level < last:
                self.decoder.append(block(c, c, level, "up", attend=False))
            for i in range(blocks + 1):
                # On the way up, attention follows the last block of a resolution only, as in DDPM++.
                self.decoder.append(block(c + skips.pop(), w, level, attend=None if i == blocks else False))
                c = w
        self.out_norm = norm(c)
        self.out = zero(nn.Conv2d(c, shape[0], 3, padding=1))

    def forward(self, x, c_noise, label=None, extra=None) -> torch.Tensor:
        embedding = self.mlp(self.embed(x, c_noise, label, extra))
        h = self.stem(x)
        skips = [h]
        for block in self.encoder:
            skips.append(h := block(h, embedding))
        for block in self.middle:
            h = block(h, embedding)
        for block in self.decoder:
            # A doubling block takes the state alone, all others take a skip beside it.
            h = block(h if block.resample else torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(silu(self.out_norm(h)))


class Block(nn.Module):
    """Residual block: norm, SiLU, resample, conv, adaptive norm, SiLU, dropout, conv; self-attention if heads > 0.

    forward: h [B, cin, H, W], embedding [B, width] -> [B, cout, H', W'], where H' is H, H/2 ("down") or 2 H ("up").
    """

    def __init__(
        self, cin: int, cout: int, width: int, resample: str | None, adaptive: bool, heads: int, dropout: float
    ):
        super().__init__()
        self.resample, self.adaptive = resample, adaptive
        self.norm1, self.conv1 = norm(cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.affine = Linear(width, cout * (1 + adaptive))
        self.norm2, self.conv2 = norm(cout), zero(nn.Conv2d(cout, cout, 3, padding=1))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(cin, cout, 1) if cin != cout or resample else nn.Identity()
        self.attention = Attention(cout, heads) if heads else None

    def forward(self, h, embedding) -> torch.Tensor:
        r = self.conv1(_resample(silu(self.norm1(h)), self.resample))
        parameters = self.affine(embedding)[:, :, None, None]
        if self.adaptive:
            scale, shift = parameters.chunk(2, dim=1)
            r = torch.addcmul(shift, self.norm2(r), scale + 1)
        else:
            r = self.norm2(r + parameters)
        r = self.conv2(self.dropout(silu(r)))
        h = (self.skip(_resample(h, self.resample)) + r) * SKIP_SCALE
        return h if self.attention is None else self.attention(h)


class Attention(nn.Module):
    """Residual self-attention over the pixels (Vaswani et al. 2017). forward: [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be split over {heads} heads")
        self.heads = heads
        self.norm, self.qkv = norm(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, h) -> torch.Tensor:
        b, c, height, width = h.shape
        # [B, 3, heads, pixels, C / heads], split over the second axis.
        q, k, v = self.qkv(self.norm(h)).reshape(b, 3, self.heads, c // self.heads, -1).transpose(3, 4).unbind(1)
        a = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, height, width)
        return (h + self.out(a)) * SKIP_SCALE


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with min(32, channels / 4) groups, or the next smaller number that divides the channels."""
    groups = max(min(32, channels // 4), 1)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=1e-6)


def _resample(h, how):
    if how == "down":
        return F.avg_pool2d(h, 2)
    return F.interpolate(h, scale_factor=2, mode="nearest") if how == "up" else h
