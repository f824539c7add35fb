"""Which of our entrants stands for a row's cell: the first that fits, or the best of several.

The best of several is found at one NFE, or among all NFEs that cost no more FLOPs a sample than another row's cell,
rounded up to the study's next NFE.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.leaderboard import rounded
from evaluation.papers import Row
from evaluation.papers.names import higher_is_better
from evaluation.tables.ours import Measured, Ours

DEARER = 1.5  # times the FLOPs that still count as equal: a study has few NFEs, and some rules make every other alone


@dataclass(frozen=True)
class Counterpart:
    """An entrant, or "" without any, at its NFE, and our number of it; chosen: it is the best of several."""

    entrant: str
    nfe: int | None
    ours: Ours | None
    chosen: bool = False


def counterpart(
    measured: Measured, row: Row, dataset: str, solver: str, nfe: int | None, metric: str, gflop: float
) -> Counterpart:
    """What stands for a row's cell.

    Args:
        solver: of the column, for rows that name a model alone.
        nfe: of the cell.
        gflop: what a sample costs in the cell of the row that this one is as costly as, if it says so.
    """
    if row.best_of:
        return _best(measured, row, dataset, nfe, metric, gflop) or Counterpart("", nfe, None)
    entrant = measured.entrant(dataset, row.entrant, solver, nfe)
    nfe = measured.nfe_of(dataset, entrant, nfe)
    return Counterpart(entrant, nfe, measured.look_up(dataset, entrant, nfe, metric))


def _best(measured: Measured, row: Row, dataset: str, nfe: int | None, metric: str, gflop: float) -> Counterpart | None:
    """The training-free entrant with the best mean, of two alike the first by name; None where none has a value."""
    sign = -1 if higher_is_better(metric) else 1
    found = [
        Counterpart(name, at, ours, chosen=True)
        for name, at in _candidates(measured, row, dataset, nfe, gflop)
        if (ours := measured.look_up(dataset, name, at, metric)) and ours.has_value
    ]
    return min(found, key=lambda f: (sign * f.ours.summary.mean, f.entrant), default=None)


def _candidates(
    measured: Measured, row: Row, dataset: str, nfe: int | None, gflop: float
) -> Iterator[tuple[str, int | None]]:
    """Training-free entrants that fit the row's patterns, each with the NFE at which it takes part."""
    for name in measured.fitting(dataset, row.entrant):
        if measured.training_free(dataset, name):
            for at in _as_costly(measured, dataset, name, gflop) if row.as_costly_as else [nfe]:
                yield name, at


def _as_costly(measured: Measured, dataset: str, entrant: str, gflop: float) -> list[int]:
    """The entrant's NFEs up to the least that costs no fewer FLOPs; equal costs may differ by rounding.

    That one takes no part where it costs more than `DEARER` times as many. None does where nothing is known of a cost,
    as of a field in closed form.
    """
    if not (math.isfinite(gflop) and gflop > 0):
        return []
    costs = {nfe: measured.gflop(dataset, entrant, nfe) for nfe in measured.nfes(dataset, entrant)}
    next_up = min((cost for cost in costs.values() if rounded(cost) >= rounded(gflop)), default=gflop)
    most = next_up if next_up <= DEARER * gflop else gflop
    return [nfe for nfe, cost in costs.items() if rounded(cost) <= rounded(most)]
