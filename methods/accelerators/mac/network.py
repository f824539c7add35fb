"""MAC's coefficient network: w_phi(z) = s LPF(tanh(nn_phi(z))), called once, before the first step.

z is the start of a sample as unit-variance noise; the weights w bend its path (see `coefficient`). Images pass a small
U-Net and a low-pass filter, which makes the coefficients of near pixels alike; vectors pass an MLP and no filter. The
released network is conditional on a class; this one is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.nets import build
from fewstep.nets.rowwise import Linear, SiLU
from fewstep.paths import like

from .coefficient import AXES, own_shape

START = 1e-5  # shrinks the last layer's first weights, so that gamma starts at alpha


class CoefficientNet(nn.Module):
    """forward: z [B, *shape] -> w [B, 2, M, *shape], the weights of f and g, |w| <= s.

    axes  which axes of an image keep coefficients of their own, "CHW", "HW", … or "" for one coefficient in all; of a
          vector, "" or not (see `coefficient.own_shape`, which raises UserError for another letter)
    channels, multipliers, options  of the U-Net (`fewstep.nets.unet.UNet`); by default multipliers are 1, 2 below
          32 x 32 pixels and 1, 2, 4 from there on
    width  of the MLP's two hidden layers

    Weights come from the global RNG: fork and seed it around this call.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        M: int,
        s: float,
        axes: str = AXES,
        channels: int = 4,
        multipliers: tuple[int, ...] | None = None,
        width: int = 64,
        **options,
    ):
        super().__init__()
        self.shape, self.M, self.s, self.lpf = tuple(shape), M, s, low_pass(shape)
        own = own_shape(shape, axes)
        # Axes of w [B, 2, M, *shape] whose coefficients are averaged.
        self.shared = tuple(3 + i for i, (n, n_own) in enumerate(zip(shape, own, strict=True)) if n_own < n)
        if self.lpf:
            multipliers = multipliers or ((1, 2) if min(shape[1:]) < 32 else (1, 2, 4))
            self.nn = ImageNet(shape, M, self.lpf.margin, channels=channels, multipliers=multipliers, **options)
        else:
            self.nn = VectorNet(shape, M, width)

    def forward(self, z: Tensor) -> Tensor:
        w = torch.tanh(self.nn(z))
        if self.shared:
            w = w.mean(self.shared, keepdim=True)
        if self.lpf:
            w = self.lpf(w)
        return self.s * w.expand(-1, -1, -1, *self.shape)


class ImageNet(nn.Module):
    """forward: z [B, C, H, W] -> [B, 2, M, C, H + 2 margin, W + 2 margin], by a U-Net that is told no time."""

    def __init__(self, shape: tuple[int, ...], M: int, margin: int, **options):
        super().__init__()
        C, *sides = shape
        self.maps, self.sides = (2, M, C), [side + 2 * margin for side in sides]
        # Sizes other than 8, 16, 32, 64, … may need more zeros on the far side to be halved.
        times = 2 ** (len(options["multipliers"]) - 1)
        far = [-side % times for side in self.sides]
        self.padding = [margin, margin + far[1], margin, margin + far[0]]
        padded = [side + more for side, more in zip(self.sides, far, strict=True)]
        self.unet = build({"kind": "unet", "out_channels": 2 * M * C, **options}, (C, *padded))
        start_small(self.unet.up.out)

    def forward(self, z: Tensor) -> Tensor:
        maps = self.unet(F.pad(z, self.padding), z.new_zeros(len(z)))
        return maps.unflatten(1, self.maps)[..., : self.sides[0], : self.sides[1]]


class VectorNet(nn.Module):
    """forward: z [B, d] -> [B, 2, M, d], by an MLP of two hidden layers."""

    def __init__(self, shape: tuple[int, ...], M: int, width: int):
        super().__init__()
        (d,) = shape
        out = Linear(width, 2 * M * d)
        self.mlp = nn.Sequential(Linear(d, width), SiLU(), Linear(width, width), SiLU(), out)
        self.maps = (2, M, d)
        start_small(out)

    def forward(self, z: Tensor) -> Tensor:
        return self.mlp(z).unflatten(1, self.maps)


@torch.no_grad()
def start_small(layer: nn.Linear | nn.Conv2d) -> None:
    """PyTorch's own first weights times 1e-5, and no bias, as released."""
    layer.reset_parameters()
    layer.weight.mul_(START)
    layer.bias.zero_()


@dataclass(frozen=True)
class LowPass:
    """A Gaussian filter of K x K pixels and standard deviation `sigma` that keeps each sample's range.

    call: w [B, …, H', W'] with `margin` more pixels on each side -> [B, …, H, W]. Every map is filtered by itself, with
    zeros around it; all maps of a sample together are then stretched back to the range that they had before; the
    margin, which has seen those zeros, is cut off. An axis of length 1 is shared by all pixels and left as it is.
    """

    K: int
    sigma: float

    @property
    def margin(self) -> int:
        return (self.K + 1) // 2

    @property
    def kernel(self) -> Tensor:
        """The one-dimensional factor [K], float64: exp(-i^2 / (2 sigma^2)) over its sum, i = 0 in the middle."""
        i = torch.arange(self.K, dtype=torch.float64) - (self.K - 1) / 2
        return torch.softmax(-(i**2) / (2 * self.sigma**2), dim=0)

    def padded(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """[C, H', W'] of the maps that give [C, H, W]."""
        C, *sides = shape
        return (C, *(side + 2 * self.margin if side > 1 else 1 for side in sides))

    def __call__(self, w: Tensor) -> Tensor:
        sides = [axis for axis in (-2, -1) if w.shape[axis] > 1]
        if not sides:
            return w
        y = w
        for axis in sides:
            y = blur(y, self.kernel, axis)
        y = with_range_of(w, y)
        for axis in sides:
            y = y.narrow(axis, self.margin, y.shape[axis] - 2 * self.margin)
        return y


def low_pass(shape: tuple[int, ...]) -> LowPass | None:
    """The filter for images [C, H, W]; vectors have none."""
    return LowPass(*kernel_of(min(shape[1:]))) if len(shape) == 3 else None


def kernel_of(R: int) -> tuple[int, float]:
    """(K, sigma) at R x R pixels: K = 20 R/32 - 1 and sigma = 4 R/32 as released, for R = 32, 64, …

    In between and below, where the paper has no data, K is the odd number nearest to that, the larger of two: 5 at 8.
    """
    half = math.floor((20 * R / 32 - 1) / 2)
    return 2 * max(half, 0) + 1, R / 8


def blur(w: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Each map of w [B, …, H, W] convolved with a kernel [K] along `axis` (-2 or -1), with zeros beyond its edges."""
    maps, shape = w.flatten(1, -3), [1, 1]
    shape[axis] = len(kernel)
    each = kernel.to(w).expand(maps.shape[1], -1).reshape(-1, 1, *shape)
    return F.conv2d(maps, each, padding=[n // 2 for n in shape], groups=len(each)).reshape(w.shape)


def with_range_of(w: Tensor, y: Tensor) -> Tensor:
    """y [B, …] scaled and shifted, sample by sample, from its own range to that of w [B, …]; a constant y to min w."""
    low, high = (like(v, y) for v in w.flatten(1).aminmax(dim=1))
    y_low, y_high = (like(v, y) for v in y.flatten(1).aminmax(dim=1))
    span = y_high - y_low
    # A span of zero, or too small for its inverse to be finite, would end in gradients that are not.
    span = torch.where(span > torch.finfo(y.dtype).tiny, span, 1)
    return low + (high - low) * ((y - y_low) / span)
