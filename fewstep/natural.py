"""The probability-flow ODE in a path's natural coordinates: dy/dc = slope, y = x / scale over the clock c.

dx/dt over t on EDM, RF and SI; eps over sigma / alpha on VP, where dx/dt is singular at t = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.paths import Path, like
from fewstep.shortcuts import Model

Slope = Callable[[Tensor, float], Tensor]


def ode(model: Model, path: Path) -> Slope:
    """`slope(y, c)`, one call of the model at y [B, ...] and clock c."""

    def slope(y: Tensor, c: float) -> Tensor:
        t = path.time_at_clock(torch.tensor(c, dtype=torch.float64))
        return path.slope(model(like(path.scale(t), y) * y, t))

    return slope


def clocks(path: Path, t: Tensor) -> list[float]:
    """The grid's times t [n + 1] on the clock."""
    return path.clock(t).tolist()


def enter(path: Path, x: Tensor, t: Tensor) -> Tensor:
    """x at the time t, as y."""
    return x / like(path.scale(t), x)


def leave(path: Path, y: Tensor, t: Tensor) -> Tensor:
    """y at the time t, as x."""
    return y * like(path.scale(t), y)
