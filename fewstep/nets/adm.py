"""ADM (Dhariwal and Nichol, arXiv 2105.05233) as EDM trains it on ImageNet-64 (Karras et al., arXiv 2206.00364)."""

from __future__ import annotations

import torch
from torch import nn

from fewstep.nets.embedding import ExtraEmbedding, PositionalEmbedding, told, zero
from fewstep.nets.rowwise import Linear, SiLU, silu
from fewstep.nets.unet import Down, Levels, Up, UShaped

HEAD_CHANNELS = 64


class ADM(UShaped):
    """Residual U-Net whose embedding scales and shifts, with attention after every block of some resolutions.

    forward: x [B, C, H, W], c_noise [B], label [B, label_dim], extra [B, extra_dim], maps [B, maps, H, W],
        augment [B, augment_dim] -> like x, or with `out_channels` in place of C. The output starts at zero.

    attention: resolutions (H in pixels) with self-attention, in heads of 64 channels; the middle always has it.
    For other options see `fewstep.nets.unet.UNet`. Raises ValueError if H or W cannot be halved often enough.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: int = 192,
        multipliers: tuple[int, ...] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: tuple[int, ...] = (32, 16, 8),
        embedding_multiplier: int = 4,
        dropout: float = 0.1,
        label_dim: int = 0,
        extra_dim: int = 0,
        maps: int = 0,
        out_channels: int | None = None,
        augment_dim: int = 0,
    ):
        super().__init__()
        width = channels * embedding_multiplier
        self.embed = ADMEmbedding(channels, width, label_dim, augment_dim)
        plan = Levels(
            *(shape, channels, multipliers, blocks, attention),
            heads=1,
            width=width,
            adaptive=True,
            dropout=dropout,
            eps=1e-5,
            skip_scale=1.0,
            project=False,
            attend_up=True,
            head_channels=HEAD_CHANNELS,
            stem=channels * multipliers[0],
        )
        self.down = Down(plan, shape[0] + maps)
        self.up = Up(plan, out_channels or shape[0], middle_attention=True)
        self.extra = ExtraEmbedding(extra_dim, width)


class ADMEmbedding(nn.Module):
    """silu(mlp(time + linear(augment)) + linear(label)), [B, width]; see `ConditionEmbedding` for the call.

    A label starts as a vector of unit Gaussians, an augmentation as zero.
    """

    def __init__(self, channels: int, width: int, label_dim: int, augment_dim: int):
        super().__init__()
        self.time = PositionalEmbedding(channels, saved=False)
        self.mlp = nn.Sequential(Linear(channels, width), SiLU(), Linear(width, width))
        self.label_dim, self.augment_dim = label_dim, augment_dim
        self.label = Linear(label_dim, width, bias=False) if label_dim else None
        if label_dim:
            nn.init.normal_(self.label.weight)
        self.augment = zero(Linear(augment_dim, channels, bias=False)) if augment_dim else None

    def forward(self, x, c_noise, label=None, augment=None) -> torch.Tensor:
        embedding = self.time(c_noise.reshape(-1).expand(len(x))).to(x.dtype)
        if augment is not None:
            embedding = embedding + self.augment(told("augment", augment, embedding, self.augment_dim))
        embedding = self.mlp(embedding)
        if label is not None:
            embedding = embedding + self.label(told("label", label, embedding, self.label_dim))
        return silu(embedding)
