"""Time grids t_0 > t_1 > ... > t_n, in float64, for n steps of a solver.

`uniform` and `quadratic` are spaced in the path's own time. The others are spaced in something that every path has,
sigma / alpha: `karras` in its 7th root (arXiv 2206.00364, eq. 5), `lambda` in its logarithm (DPM-Solver, arXiv
2206.00927, §3.4), `vp_uniform` and `vp_quadratic` in the time of the VP path of the same range (DDIM's and DEIS's).

A schedule is a name, a mapping with further options, or the list of the levels sigma / alpha themselves:

    karras     {name: karras, rho: 5, sigma_min: 0.01, sigma_max: 40}     [80, 10.98, 3.88, 1.58, 0.567, 0.17, 0.002]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from fewstep.errors import UserError
from fewstep.paths import VP, Path
from fewstep.schema import Strict, parse
from fewstep.suggest import unknown

ZERO, T_MIN = "zero", "t_min"
ENDS = (ZERO, T_MIN)
RHO = 7.0  # Karras et al.; 1 is uniform in sigma / alpha

Schedule = str | dict[str, Any] | Sequence[float]


class Spec(Strict):
    """A schedule with its options; the range is in sigma / alpha and defaults to the path's own."""

    name: str
    rho: float = Field(RHO, ge=0.1)
    sigma_min: float | None = Field(None, gt=0)
    sigma_max: float | None = Field(None, gt=0)


def _between(first: float, last: float, n: int, power: float = 1.0) -> Tensor:
    """n + 1 nodes from `first` to `last`, linear after taking the `power`-th root; the ends are exact."""
    root, target = first ** (1 / power), last ** (1 / power)
    nodes = (root + torch.arange(n + 1, dtype=torch.float64) / n * (target - root)) ** power
    nodes[0], nodes[-1] = first, last
    return nodes


def ratios(path: Path, spec: Spec | None = None) -> tuple[float, float]:
    """The range of sigma / alpha, largest first. Raises UserError when it is empty."""
    spec = spec or Spec(name="")
    first = spec.sigma_max or path.u_max / (1 - path.u_max)
    last = spec.sigma_min or path.u_min / (1 - path.u_min)
    if last >= first:
        raise UserError(f"sigma_min must be below sigma_max, got {last:g} and {first:g} (levels sigma / alpha)")
    return first, last


def _own_time(power: float) -> Callable[[Path, int, Spec], Tensor]:
    def nodes(path: Path, n: int, spec: Spec) -> Tensor:
        first, last = ratios(path, spec)
        t_first = path.t_max if spec.sigma_max is None else float(path.time_at_ratio(torch.tensor(first).double()))
        t_last = path.t_min if spec.sigma_min is None else float(path.time_at_ratio(torch.tensor(last).double()))
        return _between(t_first, t_last, n, power)

    return nodes


def _karras(path: Path, n: int, spec: Spec) -> Tensor:
    return path.time_at_ratio(_between(*ratios(path, spec), n, spec.rho))


def _lambda(path: Path, n: int, spec: Spec) -> Tensor:
    first, last = ratios(path, spec)
    return path.time_at_lambda(_between(-math.log(first), -math.log(last), n))


def _vp_time(power: float) -> Callable[[Path, int, Spec], Tensor]:
    def nodes(path: Path, n: int, spec: Spec) -> Tensor:
        vp = VP.through(*ratios(path, spec))
        return path.time_at(vp.fraction(_between(vp.t_max, vp.t_min, n, power)))

    return nodes


SCHEDULES: dict[str, Callable[[Path, int, Spec], Tensor]] = {
    "uniform": _own_time(1),
    "quadratic": _own_time(2),
    "karras": _karras,
    "lambda": _lambda,
    "vp_uniform": _vp_time(1),
    "vp_quadratic": _vp_time(2),
}


def times(path: Path, n: int, schedule: Schedule, end: str = ZERO) -> Tensor:
    """The n + 1 times of an n-step grid.

    `end="zero"` makes t = 0 the last node (where a rule in natural coordinates returns the denoised image);
    `end="t_min"` stops at the schedule's smallest positive time, or at 0 where the path has none.
    Raises UserError for an unknown schedule, option or end, an empty range, levels that do not decrease, and n < 1.
    """
    check_end(end)
    if n < 1:
        raise UserError(f"a schedule needs at least one step, got {n}")
    if not isinstance(schedule, str | dict):
        return _listed(path, n, schedule, end)
    spec = spec_of(schedule)
    if spec.name not in SCHEDULES:
        raise UserError(unknown("schedule", spec.name, SCHEDULES))
    nodes = SCHEDULES[spec.name](path, n, spec)
    if end == ZERO and nodes[-1] > 0:
        inner = SCHEDULES[spec.name](path, n - 1, spec) if n > 1 else nodes[:1]
        nodes = torch.cat([inner, torch.zeros(1, dtype=torch.float64)])
    return decreasing(nodes, f"the schedule {spec.name!r}")


def check_end(end: str) -> None:
    """UserError unless a grid can end there."""
    if end not in ENDS:
        raise UserError(f"unknown end {end!r} of a schedule; there are {', '.join(ENDS)}")


def spec_of(schedule: Schedule) -> Spec:
    """A schedule's options; those of a list are the defaults."""
    return parse(Spec, schedule, "schedule") if isinstance(schedule, dict) else Spec(name=str(schedule))


def _listed(path: Path, n: int, levels: Any, end: str) -> Tensor:
    """Levels sigma / alpha as times; 0 is appended where the grid shall end there, and becomes t_min where it can't."""
    levels = list(levels) if isinstance(levels, Sequence) else []
    if not levels or any(not isinstance(level, Real) or not 0 <= level < math.inf for level in levels):
        raise UserError(
            "a schedule is a name, a mapping with `name`, or a list of levels sigma / alpha, each 0 or more"
        )
    if end == ZERO and levels[-1] > 0:
        levels = [*levels, 0.0]
    if end == T_MIN and levels[-1] == 0:
        levels = [*levels[:-1], ratios(path)[1] if path.t_min > 0 else 0.0]
    ratio = torch.tensor(levels, dtype=torch.float64)
    nodes = decreasing(path.time_at_ratio(ratio), "the list of levels")
    if len(levels) != n + 1:
        raise UserError(f"the schedule lists {len(levels)} levels, {len(levels) - 1} steps; this NFE takes {n}")
    return nodes


def ended(path: Path, nodes: Tensor, n: int, end: str) -> Tensor:
    """An accelerator's n + 1 nodes with the end that a solver asks for: t = 0, or the last time that has a call."""
    check_end(end)
    if len(nodes) != n + 1:
        raise UserError(f"the accelerator's grid has {len(nodes)} nodes; {n} steps need {n + 1}")
    last = 0.0 if end == ZERO else max(float(nodes[-1]), path.t_min)
    return decreasing(torch.cat([nodes[:-1], nodes.new_tensor([last])]), "the accelerator's grid")


def decreasing(nodes: Tensor, what: str) -> Tensor:
    """`nodes`, if each is below the one before; UserError otherwise."""
    if not bool((nodes[1:] < nodes[:-1]).all()):
        raise UserError(f"{what} must decrease from noise to data; as times: {[round(t, 6) for t in nodes.tolist()]}")
    return nodes
