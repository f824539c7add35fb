"""EDM's non-leaking augmentation (arXiv 2206.00364, app. F.2; after ADA, arXiv 2006.06676), as EDM trains CIFAR-10.

Each change happens with probability p, each image drawing its own; the network is told of what was done, in
`fewstep.facts.AUGMENT_DIM` numbers, and told of nothing (zeros) when it samples, so that no sample shows a change:

    0     mirrored left to right, as is every other image for any p above 0: one
    1     mirrored top to bottom, as is every other one of those chosen: one
    2     scaling by 2^(0.2 w), w normal: w
    3, 4  rotation by an angle a, uniform: cos a - 1, sin a
    5, 6  stretching by 2^(0.2 w) in a direction r and by its inverse across it, w normal; r is uniform for half of
          the images, else 0: w cos r, w sin r
    7, 8  shift to the right and downwards by w / 8 of the side, w normal, two of them: both w

Angles turn against the clock. A stretch of -w in the opposite direction reads like one of w: so it is published.
Images are read between pixels at twice their resolution, taken there and back by an orthonormal wavelet filter, and
continued by reflection.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SCALE_STD, STRETCH_STD = 0.2, 0.2  # of the logarithms to base 2
TURNED = 0.5  # of the stretched, how many along another direction than x
SHIFT_STD = 1 / 8  # of a side

# The scaling coefficients of the symlet of order 6 (Daubechies, Ten Lectures on Wavelets, table 6.3): orthonormal.
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
CENTRE = 5  # the coefficient that lies on a pixel itself
REACH = 3  # pixels that the filter reaches to each side


class Changes(NamedTuple):
    """What is done to n images; the zeros of every field do nothing.

    mirrored, flipped: bool [n]; size, stretch, along: float [n], w and w, r above; angle [n]; shift [n, 2], in w.
    """

    mirrored: Tensor
    flipped: Tensor
    size: Tensor
    angle: Tensor
    stretch: Tensor
    along: Tensor
    shift: Tensor

    @classmethod
    def drawn(cls, n: int, p: float, rng: torch.Generator) -> Changes:
        """Random changes of n images, each with probability p; numbers on the CPU, float32."""

        def chosen(probability: float) -> Tensor:
            return torch.rand(n, generator=rng) < probability

        def angle() -> Tensor:
            return (torch.rand(n, generator=rng) * 2 - 1) * math.pi

        def normal(*shape: int) -> Tensor:
            return torch.randn(n, *shape, generator=rng)

        return cls(
            mirrored=chosen(0.5) & (p > 0),
            flipped=chosen(0.5) & chosen(p),
            size=normal() * chosen(p),
            angle=angle() * chosen(p),
            stretch=normal() * chosen(p),
            along=angle() * chosen(TURNED),
            shift=normal(2) * chosen(p)[:, None],
        )

    def labels(self) -> Tensor:
        """What a network is told [n, AUGMENT_DIM], float32."""
        columns = [self.mirrored, self.flipped, self.size, self.angle.cos() - 1, self.angle.sin()]
        columns += [self.stretch * self.along.cos(), self.stretch * self.along.sin(), *self.shift.unbind(1)]
        return torch.stack([column.float() for column in columns], 1)

    def moved(self) -> Tensor:
        """Which images are more than mirrored, bool [n]."""
        return (self.size != 0) | (self.angle != 0) | (self.stretch != 0) | (self.shift != 0).any(1)

    def origins(self, height: int, width: int) -> Tensor:
        """Where a changed image's pixels come from: [n, 2, 3], (x, y, 1) from the image's centre -> (x, y), in pixels.

        An image is scaled, then rotated, stretched and shifted; the way back undoes these from the last to the first.
        """
        scaling, stretching = torch.exp2(-SCALE_STD * self.size), torch.exp2(-STRETCH_STD * self.stretch)
        back = _turn(self.angle) * scaling[:, None, None]
        squeeze = torch.diag_embed(torch.stack([stretching, 1 / stretching], 1))
        back = back @ _turn(-self.along) @ squeeze @ _turn(self.along)
        shift = self.shift * torch.tensor([width, height]) * SHIFT_STD
        return torch.cat([back, -back @ shift[:, :, None]], 2)


def augment(x: Tensor, p: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images [n, C, H, W], some of them changed, with what the network is told of each [n, AUGMENT_DIM].

    p: probability of each change (EDM: 0.12 for CIFAR-10, 0.15 for FFHQ and AFHQv2); 0 changes nothing.
    """
    changes = Changes.drawn(len(x), p, rng)
    return apply(x, changes), changes.labels().to(x.device)


def apply(x: Tensor, changes: Changes) -> Tensor:
    """Images [n, C, H, W] after the changes; what is not more than mirrored stays exact."""
    mirrored, flipped, moved = (mask.to(x.device) for mask in (changes.mirrored, changes.flipped, changes.moved()))
    x = x.clone()
    x[mirrored] = x[mirrored].flip(3)
    x[flipped] = x[flipped].flip(2)
    if moved.any():
        origins = changes.origins(*x.shape[2:]).to(x)
        x[moved] = resample(x[moved], origins[moved])
    return x


def resample(x: Tensor, origins: Tensor) -> Tensor:
    """Images [n, C, H, W] with every pixel read at its origin; origins [n, 2, 3] as `Changes.origins` gives them."""
    sides = torch.tensor(x.shape[:1:-1]).to(x)  # width, height
    margin = _margin(origins, sides)
    fine = finer(functional.pad(x, (margin,) * 4, mode="reflect"))
    # The half pixels that the way back needs, from the image's centre; then where in `fine` those come from.
    half = [torch.arange(-CENTRE, 2 * n + CENTRE).to(x) / 2 - (n - 1) / 2 for n in x.shape[2:]]
    rows, columns = torch.meshgrid(*half, indexing="ij")
    wanted = torch.stack([columns, rows, torch.ones_like(rows)], -1)
    found = wanted @ origins.mT[:, None]  # [n, rows, columns, 2]
    index = 2 * (found + (sides - 1) / 2 + margin) + CENTRE
    grid = 2 * index / (torch.tensor(fine.shape[:1:-1]).to(x) - 1) - 1
    return coarser(functional.grid_sample(fine, grid, mode="bilinear", padding_mode="zeros", align_corners=True))


def finer(x: Tensor) -> Tensor:
    """Images [n, C, H, W] at twice the resolution [n, C, 2 H + 10, 2 W + 10]; pixel i is at 2 i + CENTRE."""
    return _doubling(x.shape[2], x) @ x @ _doubling(x.shape[3], x).T


def coarser(x: Tensor) -> Tensor:
    """The transpose of `finer` and, as the filter is orthonormal, its inverse."""
    height, width = ((side - len(SYM6)) // 2 + 1 for side in x.shape[2:])
    return _doubling(height, x).T @ x @ _doubling(width, x)


def _doubling(n: int, like: Tensor) -> Tensor:
    """The filter as a matrix [2 n + 10, n]: column i holds it from row 2 i on. As products, small images are fast."""
    matrix = like.new_zeros(2 * n + len(SYM6) - 2, n)
    columns = torch.arange(n)[:, None]
    matrix[2 * columns + torch.arange(len(SYM6)), columns] = torch.tensor(SYM6, dtype=like.dtype, device=like.device)
    return matrix


def _margin(origins: Tensor, sides: Tensor) -> int:
    """Pixels by which images must be continued; by no more than reflection gives, beyond which they are grey."""
    reach = (sides - 1) / 2 + REACH
    corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]).to(sides) * reach
    furthest = (corners @ origins[:, :, :2].mT + origins[:, None, :, 2]).abs().amax((0, 1))  # from the centre, x and y
    needed = (furthest - (sides - 1) / 2 + REACH).max().ceil()
    return int(needed.clamp(0, sides.min() - 1))


def _turn(angle: Tensor) -> Tensor:
    """Matrices [n, 2, 2] that take a point to where it was before a turn by these angles [n]."""
    c, s = angle.cos(), angle.sin()
    return torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)
