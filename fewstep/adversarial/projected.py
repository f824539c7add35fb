"""The projected discriminator (Sauer et al., arXiv 2111.01007; with several backbones, StyleGAN-XL, arXiv 2202.00273).

D judges the features of a frozen, pretrained network, mixed over channels (CCM) and scales (CSM) by frozen random maps:

    x -> DiffAugment -> R x R -> features at /4, /8, /16, /32 -> CCM -> CSM -> a head at each scale -> 4x4 logits each

Only the heads are trained. Unconditional; each backbone draws an augmentation of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from fewstep.adversarial.augment import COLOUR, GEOMETRY, augment
from fewstep.adversarial.discriminators import leaky
from fewstep.adversarial.features import BACKBONES, freeze
from fewstep.errors import UserError
from fewstep.suggest import one_of

MIXED = (64, 128, 256, 512)  # channels after CCM
PYRAMID = (64, 64, 128, 256)  # channels after CSM
HEAD = {128: 64, 64: 64, 32: 128, 16: 256, 8: 512}  # nominal size -> channels in a head; level 0 starts at 128
STRIDE = 32  # of the deepest features
SMALLEST = 8  # side of the deepest map after CSM: its head halves it once and has 4x4 left for the last kernel


class Projected(nn.Module):
    """Images [B, 1 or 3, H, W] in [-1, 1] -> logits; at 224 pixels 64 of each backbone, 16 of each of 4 heads.

    resolution  of the features' input, a multiple of 32. Below 128 the deepest features are too small to judge and left
                out: 64 keeps three scales, for trials on a CPU.
    Checkpoints hold the heads and the random maps; the pretrained weights are read from their own file each time.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        backbones: Sequence[str] = ("lite0",),
        resolution: int = 224,
        policy: Sequence[str] = (*COLOUR, *GEOMETRY),
    ):
        super().__init__()
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise UserError(
                f"the discriminator 'projected' judges images of 1 or 3 channels, not samples of {tuple(shape)}; "
                f"take {'conv' if len(shape) == 3 else 'mlp'!r}"
            )
        if resolution < STRIDE or resolution % STRIDE:
            raise UserError(f"a projected discriminator's resolution is a multiple of {STRIDE}, got {resolution}")
        names = [one_of("backbone", name, BACKBONES) for name in backbones]
        self.branches = nn.ModuleList(Branch(name, resolution, tuple(policy)) for name in names)

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return torch.cat([branch(x, rng) for branch in self.branches], dim=1)


class Branch(nn.Module):
    """One backbone, its random projection and its heads: images -> logits [B, n]."""

    def __init__(self, backbone: str, resolution: int, policy: tuple[str, ...]):
        super().__init__()
        self.resolution, self.policy = resolution, policy
        sizes = [size for level in range(len(MIXED)) if (size := resolution >> (level + 1)) >= SMALLEST]
        known = BACKBONES[backbone]
        self.features = known.load(len(sizes))
        self.projection = freeze(Projection(known.channels[: len(sizes)]), stored=True)
        self.heads = nn.ModuleList(head(level, len(sizes)) for level in range(len(sizes)))

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        x = augment(x, rng, self.policy).expand(-1, 3, -1, -1)
        if x.shape[2:] != (self.resolution, self.resolution):
            x = functional.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear")
        maps = self.projection(self.features(x))
        return torch.cat([head(h).flatten(1) for head, h in zip(self.heads, maps, strict=True)], dim=1)


class Projection(nn.Module):
    """CCM, a random 1x1 convolution of each map, then CSM from the deepest up: 1x1, enlarged, added to the next.

    forward: maps at /4, /8, … -> maps with PYRAMID's channels at /2, /4, ….
    """

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.ccm = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(channels, MIXED, strict=False))
        self.csm = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b, _ in zip(MIXED, PYRAMID, channels, strict=False))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        out: list[Tensor] = []
        for level in reversed(range(len(maps))):
            h = self.ccm[level](maps[level])
            if out:
                h = h + out[0]
            # The paper enlarges first; a 1x1 convolution commutes with that and costs a quarter here.
            h = functional.interpolate(self.csm[level](h), scale_factor=2, mode="bilinear", align_corners=True)
            out.insert(0, h)
        return out


def head(level: int, levels: int) -> nn.Sequential:
    """D on one scale of several: halved down to where all scales meet (7 pixels of 224), then a 4x4 kernel.

    Maps [B, PYRAMID[level], k, k] -> logits [B, 1, n, n].
    """
    sizes = [128 >> i for i in range(level, levels + 1)]
    layers: list[nn.Module] = []
    for a, b in pairwise(HEAD[size] for size in sizes):
        layers += [spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)), nn.BatchNorm2d(b), leaky()]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(HEAD[sizes[-1]], 1, 4, bias=False)))
