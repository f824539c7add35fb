"""Whether one of our numbers may be set against a published one, and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from evaluation.extractors import EXTRACTORS
from evaluation.papers import Row, Table
from evaluation.papers.names import higher_is_better
from evaluation.tables.ours import Ours

AGREES, BETTER, WORSE = "agrees", "better", "worse"


@dataclass(frozen=True)
class Tolerance:
    """A difference up to the larger of both counts as none."""

    relative: float
    absolute: float

    def __str__(self) -> str:
        return f"{self.relative:.0%} or {self.absolute:g}".replace("%", " %")


# EDM's network, run by others with its own code, gave 2.04 and 2.08 where the minimum of three runs is 1.97, and two
# papers that ran one solver on that network differ by 2 to 4 %: closer than this, two FIDs are not told apart.
TOLERANCES = {"fid": Tolerance(0.02, 0.05), "fd_dinov2": Tolerance(0.02, 0.05)}


def our_metric(table: Table, metric: str) -> str:
    """The name under which a table's metric is measured here: FID on pytorch-fid's features has its own."""
    spec = EXTRACTORS.get(table.extractor)
    return spec.frechet if spec and metric == "fid" else metric


def obstacles(table: Table, row: Row, metric: str, ours: Ours, params: dict[str, Any]) -> list[str]:
    """Why there is no verdict on a cell whose dataset and metric agree; none if the protocols agree too.

    params: those that our sampler ran with.
    """
    found = []
    for what, theirs, mine in (
        ("samples", table.n_generated, ours.n_generated),
        ("reference samples", table.n_reference, ours.n_reference),
    ):
        if theirs is None:
            found.append(f"the paper's number of {what} is not known")
        elif mine != theirs:
            found.append(f"{theirs:,} {what} there, {'unknown' if mine is None else f'{mine:,}'} here")
    if metric == "fid" and table.extractor not in EXTRACTORS:
        found.append(f"the features of {table.extractor or 'its FID code'} are not ours")
    for name, value in row.params.items():
        if params.get(name) != value:
            found.append(f"{name} is {_text(value)} there, {_text(params.get(name))} here")
    if table.minimum_of and (ours.summary.count, ours.summary.seeds) != (table.minimum_of, 1):
        trained = f" of {ours.summary.seeds} trainings" * (ours.summary.seeds > 1)
        found.append(f"the best of {table.minimum_of} runs of one model there, {ours.summary.count}{trained} here")
    return found


def _text(value: Any) -> str:
    return "off" if value is None else str(value)


def verdict(metric: str, published: float, ours: Ours, minimum: bool = False) -> str:
    """agrees, better or worse.

    Ours agrees where the published value lies in our 95 % interval or the two differ by no more than the metric's
    tolerance. Where the paper prints the best of several runs (`minimum`), so do we: the interval then reaches down to
    our best run, and the tolerance is around it.
    """
    mean, low, high = ours.summary.mean, ours.summary.low, ours.summary.high
    value = ours.smallest if minimum else mean
    low = min(low, value) if math.isfinite(low) else value
    high = high if math.isfinite(high) else mean
    allowed = TOLERANCES.get(metric, Tolerance(0, 0))
    slack = max(allowed.relative * abs(published), allowed.absolute)
    if low <= published <= high or abs(value - published) <= slack:
        return AGREES
    return BETTER if (value > published) == higher_is_better(metric) else WORSE
