"""Time grids t_0 > t_1 > ... > t_n, in float64, for n steps of a solver.

`uniform` and `quadratic` are spaced in the path's own time from t_max; `karras` (rho = 7, arXiv 2206.00364 eq. 5) in
sigma / alpha and `lambda` (DPM-Solver, arXiv 2206.00927 §3.4) in log(alpha / sigma), between u_max and u_min.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.paths import Path

ZERO, T_MIN = "zero", "t_min"
ENDS = (ZERO, T_MIN)


def _between(first: float, last: float, n: int, power: float = 1.0) -> Tensor:
    """n + 1 nodes from `first` to `last`, linear after taking the `power`-th root; the ends are exact."""
    root, target = first ** (1 / power), last ** (1 / power)
    nodes = (root + torch.arange(n + 1, dtype=torch.float64) / n * (target - root)) ** power
    nodes[0], nodes[-1] = first, last
    return nodes


def _uniform(path: Path, n: int) -> Tensor:
    return _between(path.t_max, path.t_min, n)


def _quadratic(path: Path, n: int) -> Tensor:
    return _between(path.t_max, path.t_min, n, power=2)


def _karras(path: Path, n: int, rho: float = 7.0) -> Tensor:
    ratio = _between(path.u_max / (1 - path.u_max), path.u_min / (1 - path.u_min), n, power=rho)
    return path.time_at(ratio / (1 + ratio))


def _lambda(path: Path, n: int) -> Tensor:
    lam_of = lambda u: float(torch.logit(torch.tensor(1 - u, dtype=torch.float64)))  # noqa: E731
    return path.time_at_lambda(_between(lam_of(path.u_max), lam_of(path.u_min), n))


SCHEDULES: dict[str, Callable[[Path, int], Tensor]] = {
    "uniform": _uniform,
    "quadratic": _quadratic,
    "karras": _karras,
    "lambda": _lambda,
}


def times(path: Path, n: int, schedule: str, end: str = ZERO) -> Tensor:
    """The n + 1 times of an n-step grid.

    `end="zero"` makes t = 0 the last node (where a rule in natural coordinates returns the denoised image);
    `end="t_min"` stops at the schedule's smallest positive time, or at 0 where the path has none.
    Raises UserError for an unknown schedule or end and for n < 1.
    """
    if schedule not in SCHEDULES:
        raise UserError(f"unknown schedule {schedule!r}; there are {', '.join(SCHEDULES)}")
    if end not in ENDS:
        raise UserError(f"unknown end {end!r} of a schedule; there are {', '.join(ENDS)}")
    if n < 1:
        raise UserError(f"a schedule needs at least one step, got {n}")
    nodes = SCHEDULES[schedule](path, n)
    if end == ZERO and nodes[-1] > 0:
        inner = SCHEDULES[schedule](path, n - 1) if n > 1 else nodes[:1]
        nodes = torch.cat([inner, torch.zeros(1, dtype=torch.float64)])
    if not bool((nodes[1:] < nodes[:-1]).all()):
        raise UserError(f"the schedule {schedule!r} does not decrease: {nodes.tolist()}")
    return nodes
