"""A convolutional U-Net after DDPM++ (Song et al. 2021) as EDM configures it (Karras et al. 2022, App. F.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from fewstep.nets.embedding import ConditionEmbedding, ExtraEmbedding, beside, zero
from fewstep.nets.resample import BOX, Resample
from fewstep.nets.rowwise import Linear, Rowwise, SiLU, silu

SKIP_SCALE = math.sqrt(0.5)  # keeps the variance of a sum of two unit-variance branches at one


class UShaped(Rowwise):
    """A way down and a way up (`down`, `up`), which share an embedding (`embed`, `extra`); see `UNet` for the call."""

    def forward(self, x, c_noise, label=None, extra=None, maps=None, augment=None) -> torch.Tensor:
        embedding = self.extra(self.embedded(x, c_noise, label, augment), extra)
        return self.up(self.down(beside(x, maps), embedding), embedding)

    def embedded(self, x, c_noise, label, augment) -> torch.Tensor:
        """What the network is told of each sample but its code, [B, width]."""
        return self.embed(x, c_noise, label, augment)

    @property
    def bottleneck(self) -> nn.Module:
        """The block whose output is the lowest level's last state, [B, C, H', W']."""
        return self.up.middle[-1]


class UNet(UShaped):
    """Residual U-Net: one resolution a multiplier, `blocks` residual blocks at each, halving and doubling in between.

    forward: x [B, C, H, W], c_noise [B], label [B, label_dim], extra [B, extra_dim], maps [B, maps, H, W],
        augment [B, augment_dim] -> like x, or with `out_channels` in place of C. The output starts at zero.

    channels: width of the first level; level i has channels * multipliers[i].
    attention: resolutions (H in pixels) with self-attention of `heads` heads: after every block on the way down and
        after the last one on the way up.
    middle_attention: self-attention after the first of the two blocks in the middle, as EDM has at 32×32.
    adaptive: the embedding scales and shifts each block's second norm (Dhariwal & Nichol 2021, ADM); otherwise it is
        added before that norm, as in DDPM++ and EDM's CIFAR-10 network.
    embedding_multiplier: width of the embedding's two layers in units of `channels`; `extra`, by two layers of its
        own, is added to their result (arXiv 2409.17487, §3.2).
    maps: further channels of the input, beside x.
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
        maps: int = 0,
        out_channels: int | None = None,
        augment_dim: int = 0,
    ):
        super().__init__()
        width = channels * embedding_multiplier
        self.embed = ConditionEmbedding(channels, embedding, label_dim, augment_dim)
        self.mlp = nn.Sequential(Linear(channels, width), SiLU(), Linear(width, width), SiLU())
        plan = Levels(shape, channels, multipliers, blocks, attention, heads, width, adaptive, dropout)
        self.down = Down(plan, shape[0] + maps)
        self.up = Up(plan, out_channels or shape[0], middle_attention)
        self.extra = ExtraEmbedding(extra_dim, width)

    def embedded(self, x, c_noise, label, augment) -> torch.Tensor:
        return self.mlp(self.embed(x, c_noise, label, augment))


@dataclass(frozen=True)
class Levels:
    """What both halves of a U-Net share; see `UNet`. `width` is the embedding's.

    eps: of the norms. skip_scale: factor of a sum of two branches. resample_filter: see `Resample`.
    project: a shortcut that changes the resolution has a 1×1 convolution, not only one that changes the channels.
    attend_up: attention follows every block of a resolution on the way up, not only the last.
    head_channels: channels of a head, in place of the number of `heads`.
    stem: channels after the first convolution; by default `channels`.
    """

    shape: tuple[int, ...]
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int
    width: int
    adaptive: bool
    dropout: float
    eps: float = 1e-6
    skip_scale: float = SKIP_SCALE
    resample_filter: tuple[int, ...] = BOX
    project: bool = True
    attend_up: bool = False
    head_channels: int | None = None
    stem: int | None = None

    def __post_init__(self):
        halvings = len(self.multipliers) - 1
        if len(self.shape) != 3 or any(side % 2**halvings for side in self.shape[1:]):
            raise ValueError(f"a U-Net of {halvings + 1} levels cannot halve samples of shape {tuple(self.shape)}")

    @property
    def widths(self) -> list[int]:
        """Channels of each level, from the largest resolution to the smallest."""
        return [self.channels * m for m in self.multipliers]

    @property
    def skips(self) -> list[int]:
        """Channels of each state that `Down` leaves for `Up`, in order."""
        skips = [self.stem or self.channels]
        for level, w in enumerate(self.widths):
            skips += [skips[-1]] * (level > 0) + [w] * self.blocks
        return skips

    def block(self, cin: int, cout: int, level: int, resample: str | None = None, attend: bool | None = None) -> Block:
        """A block at a level, with attention where that resolution has it unless `attend` says."""
        attend = self.shape[1] >> level in self.attention if attend is None else attend
        heads = max(1, cout // self.head_channels) if self.head_channels else self.heads
        return Block(cin, cout, self, resample, heads if attend else 0)


class Down(nn.Module):
    """The way down. forward: x [B, in_channels, H, W], embedding [B, width] -> the state after the stem and after every
    block."""

    def __init__(self, plan: Levels, in_channels: int):
        super().__init__()
        c = plan.skips[0]
        self.stem, self.blocks = nn.Conv2d(in_channels, c, 3, padding=1), nn.ModuleList()
        for level, w in enumerate(plan.widths):
            if level:
                self.blocks.append(plan.block(c, c, level, "down", attend=False))
            for _ in range(plan.blocks):
                self.blocks.append(plan.block(c, w, level))
                c = w

    def forward(self, x, embedding) -> list[torch.Tensor]:
        states = [self.stem(x)]
        for block in self.blocks:
            states.append(block(states[-1], embedding))
        return states


class Up(nn.Module):
    """The middle and the way up. forward: the states of `Down`, embedding [B, width] -> [B, out_channels, H, W].

    The output starts at zero.
    """

    def __init__(self, plan: Levels, out_channels: int, middle_attention: bool):
        super().__init__()
        skips, last = plan.skips, len(plan.widths) - 1
        c, middle = skips[-1], middle_attention or None
        self.middle = nn.ModuleList([plan.block(c, c, last, attend=middle), plan.block(c, c, last, attend=False)])
        self.blocks = nn.ModuleList()
        for level, w in reversed(list(enumerate(plan.widths))):
            if level < last:
                self.blocks.append(plan.block(c, c, level, "up", attend=False))
            for i in range(plan.blocks + 1):
                # On the way up, attention follows the last block of a resolution only, in DDPM++.
                attend = None if i == plan.blocks or plan.attend_up else False
                self.blocks.append(plan.block(c + skips.pop(), w, level, attend=attend))
                c = w
        self.out_norm = norm(c, plan.eps)
        self.out = zero(nn.Conv2d(c, out_channels, 3, padding=1))

    def forward(self, states, embedding) -> torch.Tensor:
        h, skips = states[-1], list(states)
        for block in self.middle:
            h = block(h, embedding)
        for block in self.blocks:
            # A doubling block takes the state alone, all others take a skip beside it.
            h = block(h if block.resample else torch.cat([h, skips.pop()], dim=1), embedding)
        return self.out(silu(self.out_norm(h)))


class Block(nn.Module):
    """Residual block: norm, SiLU, resample, conv, adaptive norm, SiLU, dropout, conv; self-attention if heads > 0.

    forward: h [B, cin, H, W], embedding [B, width] -> [B, cout, H', W'], where H' is H, H/2 ("down") or 2 H ("up").
    """

    def __init__(self, cin: int, cout: int, plan: Levels, resample: str | None, heads: int):
        super().__init__()
        self.resample, self.adaptive, self.skip_scale = resample, plan.adaptive, plan.skip_scale
        self.resized = Resample(resample, plan.resample_filter)
        self.norm1, self.conv1 = norm(cin, plan.eps), nn.Conv2d(cin, cout, 3, padding=1)
        self.affine = Linear(plan.width, cout * (1 + plan.adaptive))
        self.norm2, self.conv2 = norm(cout, plan.eps), zero(nn.Conv2d(cout, cout, 3, padding=1))
        self.dropout = nn.Dropout(plan.dropout)
        projected = cin != cout or (resample and plan.project)
        self.skip = nn.Conv2d(cin, cout, 1) if projected else nn.Identity()
        self.attention = Attention(cout, heads, plan.eps, plan.skip_scale) if heads else None

    def forward(self, h, embedding) -> torch.Tensor:
        r = silu(self.norm1(h))
        if self.resample:
            r, h = self.resized(r), self.resized(h)
        r = self.conv1(r)
        parameters = self.affine(embedding)[:, :, None, None]
        if self.adaptive:
            scale, shift = parameters.chunk(2, dim=1)
            r = torch.addcmul(shift, self.norm2(r), scale + 1)
        else:
            r = self.norm2(r + parameters)
        r = self.conv2(self.dropout(silu(r)))
        h = (self.skip(h) + r) * self.skip_scale
        return h if self.attention is None else self.attention(h)


class Attention(nn.Module):
    """Residual self-attention over the pixels (Vaswani et al. 2017). forward: [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int, heads: int, eps: float = 1e-6, skip_scale: float = SKIP_SCALE):
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be split over {heads} heads")
        self.heads, self.skip_scale = heads, skip_scale
        self.norm, self.qkv = norm(channels, eps), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, h) -> torch.Tensor:
        b, c, height, width = h.shape
        # [B, 3, heads, pixels, C / heads], split over the second axis.
        q, k, v = self.qkv(self.norm(h)).reshape(b, 3, self.heads, c // self.heads, -1).transpose(3, 4).unbind(1)
        a = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(b, c, height, width)
        return (h + self.out(a)) * self.skip_scale


def norm(channels: int, eps: float = 1e-6) -> nn.GroupNorm:
    """GroupNorm with min(32, channels / 4) groups, or the next smaller number that divides the channels."""
    groups = max(min(32, channels // 4), 1)
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels, eps=eps)
