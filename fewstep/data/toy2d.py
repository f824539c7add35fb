"""Two-dimensional densities, as set up for the 2-D tables of conditional flow matching (arXiv 2302.00482)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewstep.data.dataset import Dataset
from fewstep.seeds import generator

N_REFERENCE = 2000
RADIUS, STD = 5.0, 0.1**0.25  # the upstream code passes sqrt(0.1) as a covariance, so the std is its root


def _normal(n: int, rng: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=rng)


def _eight_gaussians(modes: Tensor, rng: torch.Generator) -> Tensor:
    angle = modes * (math.pi / 4)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1) + STD * _normal(len(modes), rng)


def eight_gaussians() -> Dataset:
    """Eight modes on a circle of radius 5; the reference holds each mode equally often, so W2 has less noise."""

    def draw(n: int, rng: torch.Generator) -> Tensor:
        return _eight_gaussians(torch.randint(8, (n,), generator=rng), rng)

    reference = _eight_gaussians(torch.arange(N_REFERENCE) % 8, generator("data", "eight_gaussians"))
    return Dataset("eight_gaussians", reference, draw)


def _moons(upper: Tensor, rng: torch.Generator) -> Tensor:
    """Two half circles with Gaussian noise of 0.2, then 3 x - 1.

    torchdyn's generator, which the 2-D tables used, adds one uniform number in [0, 0.2) to both coordinates instead:
    a W2 on these moons is no published one.
    """
    angle = math.pi * torch.rand(len(upper), generator=rng)
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return 3 * (torch.stack([x, y], dim=1) + 0.2 * _normal(len(upper), rng)) - 1


def moons() -> Dataset:
    """Two interleaved half moons."""

    def draw(n: int, rng: torch.Generator) -> Tensor:
        return _moons(torch.rand(n, generator=rng) < 0.5, rng)

    return Dataset("moons", _moons(torch.arange(N_REFERENCE) % 2 == 0, generator("data", "moons")), draw)


def checkerboard() -> Dataset:
    """Every other square of side 2 in [-4, 4]^2."""

    def draw(n: int, rng: torch.Generator) -> Tensor:
        x, y = 8 * torch.rand(n, generator=rng) - 4, 2 * torch.rand(n, generator=rng)
        row = torch.randint(2, (n,), generator=rng) * 4 - 4 + torch.floor(x / 2).remainder(2) * 2
        return torch.stack([x, y + row], dim=1)

    return Dataset("checkerboard", draw(N_REFERENCE, generator("data", "checkerboard")), draw)
