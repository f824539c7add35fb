"""The probability-flow ODE in a path's natural coordinates: dy/dc = slope, y = x / scale over the clock c.

dx/dt over t on EDM, RF and SI; eps over sigma / alpha on VP, where dx/dt is singular at t = 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from fewstep.field import Field, steps_for
from fewstep.paths import Path, like
from fewstep.schedules import ZERO, Schedule
from fewstep.shortcuts import Model, model_of

Slope = Callable[[Tensor, float], Tensor]
Rule = Callable[[Slope, Tensor, float, float], Tensor]  # slope, y, clock, step -> the step's mean slope


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


def one_step(field: Field, latents: Tensor, nfe: int, rule: Rule, calls: int, schedule: Schedule, end: str, afs: bool):
    """Samples by a rule that takes `calls` calls a step and keeps no history; a last step to t = 0 is Euler's."""
    path = field.path
    t = field.times(steps_for(nfe, calls, end, afs), schedule, end)
    slope = ode(model_of(field, afs), path)
    y = enter(path, field.start(latents, t[0]), t[0])
    for now, after in pairwise(clocks(path, t)):
        h = after - now
        y = y + h * (slope(y, now) if after == 0 and end == ZERO else rule(slope, y, now, h))
    return leave(path, y, t[-1])


def leave(path: Path, y: Tensor, t: Tensor) -> Tensor:
    """y at the time t, as x."""
    return y * like(path.scale(t), y)
