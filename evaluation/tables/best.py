"""The best of several entrants: at one NFE, or each where it costs as many FLOPs a sample as another row's cell."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.leaderboard import rounded
from evaluation.papers import Row
from evaluation.papers.names import higher_is_better
from evaluation.tables.ours import Measured, Ours


@dataclass(frozen=True)
class Found:
    """What stands for a cell: an entrant at its NFE, and our number of it."""

    entrant: str
    nfe: int | None
    ours: Ours | None


def best(measured: Measured, row: Row, dataset: str, nfe: int | None, metric: str, gflop: float) -> Found | None:
    """The training-free entrant with the best mean among those that fit the row's patterns; None without any value.

    Args:
        nfe: at which they are compared, unless the row says `as_costly_as`.
        gflop: what a sample of that row's cell costs.
    """
    sign = -1 if higher_is_better(metric) else 1
    found = [
        Found(name, at, ours)
        for name, at in _candidates(measured, row, dataset, nfe, gflop)
        if (ours := measured.look_up(dataset, name, at, metric)) and ours.has_value
    ]
    return min(found, key=lambda f: (sign * f.ours.summary.mean, f.entrant), default=None)


def _candidates(
    measured: Measured, row: Row, dataset: str, nfe: int | None, gflop: float
) -> Iterator[tuple[str, int | None]]:
    for name in measured.fitting(dataset, row.entrant):
        if measured.training_free(dataset, name):
            yield name, _as_costly(measured, dataset, name, gflop) if row.as_costly_as else nfe


def _as_costly(measured: Measured, dataset: str, entrant: str, gflop: float) -> int | None:
    """The entrant's least NFE in the study that costs no less; equal costs may differ by rounding.

    None where it has none, or where nothing is known of a cost, as of a field in closed form.
    """
    if not (math.isfinite(gflop) and gflop > 0):
        return None
    costs = ((nfe, measured.gflop(dataset, entrant, nfe)) for nfe in measured.nfes(dataset, entrant))
    return next((nfe for nfe, cost in costs if rounded(cost) >= rounded(gflop)), None)
