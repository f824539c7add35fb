"""DDPM++ and NCSN++ (Song et al., arXiv 2011.13456) as EDM trains them (Karras et al., arXiv 2206.00364, App. F)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from fewstep.nets.embedding import ExtraEmbedding, FourierEmbedding, PositionalEmbedding, told, zero
from fewstep.nets.resample import BOX, Resample
from fewstep.nets.rowwise import Linear, SiLU
from fewstep.nets.unet import SKIP_SCALE, Attention, Block, Down, Levels, Up, UShaped

ATTENTION_GAIN = math.sqrt(0.2)  # of the first queries, keys and values


class SongUNet(UShaped):
    """Residual U-Net with one-head attention, embeddings that are added, and sums that keep their variance.

    forward: x [B, C, H, W], c_noise [B], label [B, label_dim], extra [B, extra_dim], maps [B, maps, H, W],
        augment [B, augment_dim] -> like x, or with `out_channels` in place of C. The output starts at zero.

    DDPM++ (the defaults): embedding "positional", encoder "standard", resample_filter [1, 1].
    NCSN++: embedding "fourier", of twice the channels, encoder "residual", resample_filter [1, 3, 3, 1].
    attention: resolutions (H in pixels) with self-attention; the middle always has it.
    residual encoder: the input, halved again and again by convolutions of its own, is added at every resolution.
    For other options see `fewstep.nets.unet.UNet`. Raises ValueError if H or W cannot be halved often enough.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int = 128,
        multipliers: tuple[int, ...] = (2, 2, 2),
        blocks: int = 4,
        attention: tuple[int, ...] = (16,),
        embedding: str = "positional",
        embedding_multiplier: int = 4,
        encoder: str = "standard",
        resample_filter: tuple[int, ...] = BOX,
        dropout: float = 0.13,
        label_dim: int = 0,
        extra_dim: int = 0,
        maps: int = 0,
        out_channels: int | None = None,
        augment_dim: int = 0,
    ):
        super().__init__()
        encoders = {"standard": Down, "residual": ResidualDown}
        if encoder not in encoders:
            raise ValueError(f"unknown encoder {encoder!r}; allowed: {', '.join(encoders)}")
        width, resample_filter = channels * embedding_multiplier, tuple(resample_filter)
        self.embed = SongEmbedding(channels, width, embedding, label_dim, augment_dim)
        plan = Levels(
            *(shape, channels, multipliers, blocks, attention),
            heads=1,
            width=width,
            adaptive=False,
            dropout=dropout,
            resample_filter=resample_filter,
        )
        self.down = encoders[encoder](plan, shape[0] + maps)
        self.up = Up(plan, out_channels or shape[0], middle_attention=True)
        first_weights(self)
        self.extra = ExtraEmbedding(extra_dim, width)


class SongEmbedding(nn.Module):
    """silu(mlp(time + linear(label) + linear(augment))), [B, width]; see `ConditionEmbedding` for the call.

    The sines stand before the cosines, of Fourier features there are twice as many, and the label has a bias, which
    also stands where there is no label.
    """

    def __init__(self, channels: int, width: int, kind: str, label_dim: int, augment_dim: int):
        super().__init__()
        if kind not in ("positional", "fourier"):
            raise ValueError(f"unknown embedding {kind!r}; allowed: positional, fourier")
        if kind == "fourier":
            channels *= 2
            self.time = FourierEmbedding(channels)
        else:
            self.time = PositionalEmbedding(channels, endpoint=True, saved=False)
        self.mlp = nn.Sequential(Linear(channels, width), SiLU(), Linear(width, width), SiLU())
        self.label_dim, self.augment_dim = label_dim, augment_dim
        self.label = Linear(label_dim, channels) if label_dim else None
        self.augment = Linear(augment_dim, channels, bias=False) if augment_dim else None

    def forward(self, x, c_noise, label=None, augment=None) -> torch.Tensor:
        waves = self.time(c_noise.reshape(-1).expand(len(x)))
        embedding = waves.roll(waves.shape[1] // 2, dims=1).to(x.dtype)
        if label is None and self.label_dim:
            label = embedding.new_zeros(len(x), self.label_dim)
        if label is not None:
            label = told("label", label, embedding, self.label_dim)
            embedding = embedding + self.label(label * math.sqrt(self.label_dim))
        if augment is not None:
            embedding = embedding + self.augment(told("augment", augment, embedding, self.augment_dim))
        return self.mlp(embedding)


class ResidualDown(Down):
    """`Down` with NCSN++'s residual encoder: after each halving the state and the input, halved beside it, become one,
    (state + Halved(input)) / sqrt(2), which is the input of the next halving."""

    def __init__(self, plan: Levels, in_channels: int):
        super().__init__(plan, in_channels)
        halved = [block for block in self.blocks if block.resample]
        widths = [in_channels, *(block.conv2.out_channels for block in halved)]
        self.residuals = nn.ModuleList([Halved(cin, cout, plan.resample_filter) for cin, cout in pairwise(widths)])

    def forward(self, x, embedding) -> list[torch.Tensor]:
        states, halved, residuals = [self.stem(x)], x, iter(self.residuals)
        for block in self.blocks:
            states.append(block(states[-1], embedding))
            if block.resample:
                states[-1] = halved = (states[-1] + next(residuals)(halved)) * SKIP_SCALE
        return states


class Halved(nn.Module):
    """A convolution and then the filter that halves, as EDM fuses them. [B, cin, H, W] -> [B, cout, H/2, W/2].

    The convolution's result reaches over the border as far as the filter does, so that the filter needs no zeros.
    """

    def __init__(self, cin: int, cout: int, weights: tuple[int, ...]):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=1 + (len(weights) - 1) // 2)
        self.resized = Resample("down", weights, padding=0)

    def forward(self, h) -> torch.Tensor:
        return self.resized(self.conv(h))


def first_weights(net: SongUNet) -> None:
    """Xavier's uniform weights and no biases; the branches' last layers and the output are zero (in EDM, 1e-5 times
    such weights). From the global RNG."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, Attention):
            nn.init.xavier_uniform_(module.qkv.weight, gain=ATTENTION_GAIN)
            zero(module.out)
        if isinstance(module, Block):
            zero(module.conv2)
    zero(net.up.out)
