"""Small encoders of data: a code, or the noise that goes with a sample, or both on one backbone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.nets import with_defaults
from fewstep.nets.embedding import PositionalEmbedding, zero
from fewstep.nets.rowwise import Linear, Rowwise, silu
from fewstep.nets.unet import Down, Levels, Up, norm

WIDTH, DEPTH = 1 / 4, 1 / 2  # of the network beside it: a quarter of its channels, half of its blocks
# What the published networks always have; `UNet` has options for it.
FIXED = {
    "song": {"middle_attention": True, "adaptive": False},
    "adm": {"middle_attention": True, "adaptive": True},
    "ddpm": {"middle_attention": True, "adaptive": False},
}


class UNetEncoder(Rowwise):
    """The lightweight encoder of arXiv 2409.17487 (§3.2, §4.1) and arXiv 2301.12003 (fast-ode's UNetEncoder).

    forward: x [B, C, H, W] -> (y [B, code_dim] or None, mean and log-variance [B, 2 C, H, W] or None).

    A code comes from the U-Net's down half alone, normed and averaged over pixels; noise needs the way up too, and the
    code is then read off the same backbone. The noise starts at zero: mean 0, variance 1. Blocks keep their embedding
    layers and are fed a constant, the embedding of t = 1, as in RNE's code.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        code_dim: int = 0,
        noise: bool = False,
        channels: int = 4,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 1,
        attention: tuple[int, ...] = (),
        middle_attention: bool = False,
        heads: int = 1,
        embedding_multiplier: int = 4,
        adaptive: bool = True,
    ):
        super().__init__()
        width = channels * embedding_multiplier
        heads = math.gcd(heads, channels)  # the network's heads may be too many for a quarter of its channels
        # Without dropout: training then sees the codes that are counted later.
        plan = Levels(shape, channels, multipliers, blocks, attention, heads, width, adaptive, dropout=0.0)
        self.register_buffer("constant", PositionalEmbedding(width)(torch.ones(1)))
        self.down, last = Down(plan, plan.shape[0]), plan.widths[-1]
        self.norm, self.head = (norm(last), Linear(last, code_dim)) if code_dim else (None, None)
        self.up = Up(plan, 2 * shape[0], middle_attention) if noise else None

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        constant = self.constant.expand(len(x), -1)
        states = self.down(x, constant)
        y = self.head(silu(self.norm(states[-1])).mean((2, 3))) if self.head else None
        return y, self.up(states, constant) if self.up else None


class MLPEncoder(Rowwise):
    """The same for flat data: two hidden layers. forward: x [B, D] -> (y or None, [B, 2 D] or None)."""

    def __init__(self, shape: tuple[int, ...], code_dim: int = 0, noise: bool = False, width: int = 32, depth: int = 2):
        super().__init__()
        size = math.prod(shape)
        self.hidden = nn.ModuleList([Linear(size if i == 0 else width, width) for i in range(depth)])
        self.head = Linear(width, code_dim) if code_dim else None
        self.noise = zero(Linear(width, 2 * size)) if noise else None

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        h = x.flatten(1)
        for layer in self.hidden:
            h = silu(layer(h))
        return self.head(h) if self.head else None, self.noise(h) if self.noise else None


def encoder_beside(net: dict[str, Any], shape: tuple[int, ...], code_dim: int = 0, noise: bool = False,
                   width: float = WIDTH, depth: float = DEPTH) -> nn.Module:  # fmt: skip
    """The encoder of a network's specification: `width` of its channels and `depth` of its blocks (at least one).

    Beside a published network it is a `UNet`'s, with the options that the two have in common. Weights come from the
    global RNG: fork and seed it around this call.
    """
    net = FIXED.get(net["kind"], {}) | with_defaults(net)
    if net["kind"] == "mlp":
        options = {"width": max(8, round(width * net["width"])), "depth": max(1, round(net["depth"] * depth))}
        return MLPEncoder(shape, code_dim, noise, **options)
    kept = ("multipliers", "attention", "middle_attention", "heads", "embedding_multiplier", "adaptive")
    options = {name: net[name] for name in kept if name in net}
    options |= {"channels": max(4, round(width * net["channels"])), "blocks": max(1, round(net["blocks"] * depth))}
    encoder = UNetEncoder(shape, code_dim, noise, **options)
    return encoder.to(memory_format=torch.channels_last)
