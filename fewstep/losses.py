"""Regression losses that several methods share, and their times. A loss is the batch mean unless it says otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.coupling import couple
from fewstep.model import Model

Warp = Callable[[Tensor], Tensor]


def normal_like(x: Tensor, rng: torch.Generator) -> Tensor:
    """Standard normal numbers of x's shape, drawn on the CPU so that a device changes nothing."""
    return torch.randn(x.shape, generator=rng).to(x)


def uniform(n: int, rng: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """n uniform numbers in [low, high)."""
    return low + (high - low) * torch.rand(n, generator=rng)


def u_shaped(n: int, rng: torch.Generator, a: float = 4.0, low: float = 0.0, high: float = 1.0) -> Tensor:
    """n times in [low, high] that favour both ends (arXiv 2405.20320): exp(a u) mirrored, u scaled from [0, 1].

    The density of u is proportional to exp(a u) + exp(a (1 - u)): the inverse CDF of one term, and a coin for which.
    """
    u = torch.log1p(math.expm1(a) * torch.rand(n, generator=rng)) / a
    mirrored = torch.rand(n, generator=rng) < 0.5
    return low + (high - low) * torch.where(mirrored, 1 - u, u)


def pseudo_huber(difference: Tensor, c: float) -> Tensor:
    """(sqrt(|difference|^2 + c^2) - c) / d of each sample [B, ...], d its number of elements (arXiv 2405.20320): [B].

    Written as |difference|^2 / (sqrt(|difference|^2 + c^2) + c), which keeps its digits where the difference is small.
    """
    rows = difference.flatten(1)
    squared = rows.square().sum(1)
    return squared / (torch.sqrt(squared + c**2) + c) / rows.shape[1]


def unwarped(t: Tensor) -> Tensor:
    """Every dimension at the sample's own time [B]."""
    return t


def velocity_matching(model: Model, x0: Tensor, eps: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
    """|v(x_t, t) - d x_t/dt|^2, the conditional flow-matching loss (arXiv 2209.03003 eq. 1, 2210.02747 eq. 9)."""
    x_t = model.path.interpolate(x0, eps, t)
    return (model(x_t, t, **condition).velocity - model.path.velocity(x0, eps, t)).square().mean()


def noise_matching(model: Model, x0: Tensor, eps: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
    """|eps(x_t, t) - eps|^2, the unweighted DDPM loss (arXiv 2006.11239 eq. 14)."""
    x_t = model.path.interpolate(x0, eps, t)
    return (model(x_t, t, **condition).eps - eps).square().mean()


def flow_matching_loss(
    model: Model, x0: Tensor, eps: Tensor, rng: torch.Generator, warp: Warp = unwarped, **condition: Tensor
) -> Tensor:
    """Velocity matching at uniform times t [B], or at a time for each dimension, warp(t) like x0."""
    return velocity_matching(model, x0, eps, warp(uniform(len(x0), rng)), **condition)


def on_data(loss: Callable[..., Tensor], coupling: str = "independent") -> Callable[..., Tensor]:
    """`loss(model, x0, rng, **condition)` for training, from `loss(model, x0, eps, rng, **condition)`: unit noise,
    paired by a coupling."""

    def on_pairs(model: Model, x0: Tensor, rng: torch.Generator, **condition: Tensor) -> Tensor:
        return loss(model, x0, couple(x0, normal_like(x0, rng), coupling), rng, **condition)

    return on_pairs


def flow_matching(coupling: str) -> Callable[..., Tensor]:
    """`loss(model, x0, rng, **condition)`: velocity matching at uniform times on pairs of the given coupling."""
    return on_data(flow_matching_loss, coupling)
