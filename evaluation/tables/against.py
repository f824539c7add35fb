"""Rows of ours set against other rows of ours, in words: what of a table's order is more than noise.

A row names its rivals (`against`). Both began with the same latents, so the difference is a paired one, as in
`python -m fewstep compare`; nothing is said of a cell that either row lacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from evaluation.compare import decisive
from evaluation.leaderboard import human, plus_minus
from evaluation.papers.names import higher_is_better
from evaluation.statistics import Summary, paired_difference
from evaluation.tables.fill import Cell, Filled


def sentences(filled: Filled) -> list[str]:
    """A sentence a pair of rows that share a number of ours, and how to read them; none without such a pair."""
    cells = filled.cells if filled.analogue is None else filled.analogue
    lines = {row.label: line for row, line in zip(filled.table.rows, cells, strict=True)}
    said, gaps = [], []
    for row in filled.table.rows:
        for rival in (label for label in row.against if label in lines):
            pairs = list(_pairs(lines[row.label], lines[rival]))
            found = [f"{cell.column}: {_outcome(cell, other, gap)}" for cell, other, gap in pairs]
            if len(lines[rival]) == 1:
                found = [_outcome(*pair) for pair in pairs]
            said += [f"{row.label} against {rival}: {'; '.join(found)}."] if found else []
            gaps += [gap for *_, gap in pairs]
    return [*said, _legend(gaps)] if said else []


def _pairs(line: list[Cell], rival: list[Cell]) -> Iterator[tuple[Cell, Cell, Summary]]:
    """The cells that both rows have, with the difference first - second. One entrant at one NFE is no pair."""
    for cell, other in zip(line, rival, strict=True):
        if not (cell.ours and cell.ours.has_value and other.ours and other.ours.has_value):
            continue
        gap = paired_difference(cell.ours.values, other.ours.values)
        if gap.count and (cell.entrant, cell.nfe) != (other.entrant, other.nfe):
            yield cell, other, gap


def _outcome(cell: Cell, other: Cell, gap: Summary) -> str:
    """`worse by 0.80 ± 0.30`, or that the two can't be told apart."""
    if decisive(gap, cell.ours.summary.mean, other.ours.summary.mean):
        better = (gap.mean > 0) == higher_is_better(cell.metric)
        sign = math.copysign(1, gap.mean)
        low, high = sorted((sign * gap.low, sign * gap.high))
        return f"{'better' if better else 'worse'} by {plus_minus(abs(gap.mean), low, high)}"
    if gap.interval_over == "none":
        return f"difference {human(gap.mean)} of one value each"
    return f"can't be told apart (difference {plus_minus(gap.mean, gap.low, gap.high)})"


def _legend(gaps: list[Summary]) -> str:
    over = " or ".join(dict.fromkeys(filter(None, map(_units, gaps))))
    text = "Against: paired differences of ours on the same latents"
    if not over:
        return f"{text}; of a single training and block they have no interval."
    return (
        f"{text}, ± half their 95 % interval over {over}; better or worse where that excludes 0, without correction "
        "for the number of pairs."
    )


def _units(gap: Summary) -> str:
    """What the interval of a difference is over."""
    one = " of one training, which tell nothing of another"
    return {
        "train_seeds": f"{gap.seeds} training seeds",
        "blocks": f"{gap.count} seed blocks{one}",
        "jackknife": f"parts of {gap.count} seed block{'s' * (gap.count > 1)}{one}",
    }.get(gap.interval_over, "")
