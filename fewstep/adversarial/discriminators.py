"""Discriminators D(x, rng) -> logits [B, n], higher for data; `rng` is a CPU generator for D's augmentation.

Their first weights come from the global RNG: fork and seed it around `build`. Only the weights that require a gradient
are trained. Keep D in training mode while it is trained: spectral norm (Miyato et al., arXiv 1802.05957) estimates a
weight's largest singular value by one power iteration a call, and only then.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fewstep.adversarial.augment import GEOMETRY, augment
from fewstep.errors import UserError
from fewstep.nets.rowwise import Rowwise
from fewstep.suggest import one_of

# Name -> (module, class), imported on first use: timm, which one of them needs, takes seconds.
KINDS = {
    "mlp": ("fewstep.adversarial.discriminators", "MLP"),
    "conv": ("fewstep.adversarial.discriminators", "Conv"),
    "projected": ("fewstep.adversarial.projected", "Projected"),
}
PROJECTED_FROM = 32  # pixels
SMALLEST = 4  # side of the map that `Conv` ends with, and of an image


def auto(shape: Sequence[int]) -> str:
    """The kind for samples of `shape`: mlp for vectors, projected for RGB images of 32 pixels and more, else conv."""
    if len(shape) != 3:
        return "mlp"
    return "projected" if shape[0] == 3 and min(shape[1:]) >= PROJECTED_FROM else "conv"


def build(kind: str, shape: Sequence[int], **options) -> nn.Module:
    """The discriminator `kind` for samples of `shape` (without the batch axis); options: that class's arguments.

    Raises UserError for an unknown kind or option and for a kind that can't judge the shape, WeightsMissing where
    pretrained features are not on this machine.
    """
    module, name = KINDS[one_of("discriminator", kind, KINDS)]
    cls = getattr(importlib.import_module(module), name)
    allowed = [key for key in inspect.signature(cls).parameters if key != "shape"]
    for option in options:
        one_of(f"option of discriminator {kind!r}", option, allowed)
    return cls(tuple(shape), **options)


class MLP(nn.Module):
    """`depth` hidden layers of `width`, LeakyReLU 0.2, spectral norm; one logit. It judges vectors (and any shape)."""

    def __init__(self, shape: tuple[int, ...], width: int = 128, depth: int = 3):
        super().__init__()
        sizes = [math.prod(shape), *[width] * depth]
        hidden = [layer for a, b in pairwise(sizes) for layer in (spectral_norm(nn.Linear(a, b)), leaky())]
        self.layers = Layers(*hidden, spectral_norm(nn.Linear(sizes[-1], 1)))

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.layers(x.flatten(1))


class Conv(nn.Module):
    """A small SNGAN discriminator for images of 8 to 64 pixels: spectral norm, no batch norm, augmentation inside.

    A 3x3 convolution at full size, then strided 4x4 ones down to about 4 pixels while `channels` go up; the channels
    that an image is too small for come in 3x3 convolutions, and a larger image goes on with the last. One logit.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int] = (32, 64, 128), policy: Sequence[str] = GEOMETRY
    ):
        super().__init__()
        if len(shape) != 3 or min(shape[1:]) < SMALLEST:
            raise UserError(
                f"the discriminator 'conv' judges images of {SMALLEST} pixels and more, not samples of {tuple(shape)}; "
                "take 'mlp'"
            )
        self.policy = tuple(policy)
        (size, height, width), wider = shape, list(channels[1:])
        layers = [spectral_norm(nn.Conv2d(size, channels[0], 3, padding=1)), leaky()]
        size = channels[0]
        while wider or min(height, width) >= 2 * SMALLEST:
            out = wider.pop(0) if wider else size
            if min(height, width) >= 2 * SMALLEST:
                layers += [spectral_norm(nn.Conv2d(size, out, 4, stride=2, padding=1)), leaky()]
                height, width = height // 2, width // 2
            else:
                layers += [spectral_norm(nn.Conv2d(size, out, 3, padding=1)), leaky()]
            size = out
        self.layers = Layers(*layers, nn.Flatten(), spectral_norm(nn.Linear(size * height * width, 1)))

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return self.layers(augment(x, rng, self.policy))


class Layers(Rowwise, nn.Sequential):
    """What a discriminator makes of each sample by itself; every call in training mode moves the spectral norms."""

    moves = True


def leaky() -> nn.Module:
    """The activation of every discriminator."""
    return nn.LeakyReLU(0.2)
