"""Two entrants side by side: the paired difference at each dataset, NFE and metric that both have."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from evaluation.leaderboard import ROUNDING, human, plus_minus
from evaluation.metrics import METRICS
from evaluation.statistics import Summary, Values, paired_difference, summarise
from fewstep.errors import UserError
from fewstep.suggest import unknown

COLUMNS = ["dataset", "nfe", "metric", "a", "b", "difference", "low", "high", "pairs", "interval_over", "better"]


def compare(
    records: pd.DataFrame, a: str, b: str, dataset: str | None = None, nfe: int | None = None, metric: str | None = None
) -> pd.DataFrame:
    """A row a (dataset, NFE, metric): means of entrants `a` and `b`, paired difference a - b with its 95 % interval.

    Pairs are (training seed, seed block): both entrants began with the same latents. `better` names the entrant that is
    better beyond the interval, "" where that is undecided. metric: default the primary one of each dataset; "all" for
    every one. Raises UserError, with the nearest right name, for an entrant, dataset, NFE or metric that isn't there.
    """
    rows = records[(records["kind"] != "reference") & records["value"].notna()]
    for name in (a, b):
        _must_be("entrant", name, rows["entrant"])
    rows = rows[rows["entrant"].isin([a, b])]
    for column, wanted in (("dataset", dataset), ("nfe", nfe)):
        if wanted is not None:
            _must_be(column, wanted, rows[column])
            rows = rows[rows[column] == wanted]
    if metric is None:
        rows = rows[rows["metric"] == rows["primary"]]
    elif metric != "all":
        _must_be("metric", metric, rows["metric"])
        rows = rows[rows["metric"] == metric]
    table = pd.DataFrame(_rows(rows, a, b), columns=COLUMNS)
    if not len(table):
        raise UserError(f"{a} and {b} have no dataset, NFE and metric in common")
    return table


def _must_be(kind: str, name: object, known: pd.Series) -> None:
    if name not in set(known):
        raise UserError(unknown(kind, name, map(str, set(known))))


def _rows(rows: pd.DataFrame, a: str, b: str) -> Iterator[tuple]:
    for (dataset, nfe, metric), group in rows.groupby(["dataset", "nfe", "metric"]):
        of_a, of_b = (Values.read(group[group["entrant"] == name]) for name in (a, b))
        gap = paired_difference(of_a, of_b)
        if not gap.count:
            continue
        upwards = metric in METRICS and METRICS[metric].higher_is_better
        means = summarise(of_a).mean, summarise(of_b).mean
        better = "" if not decisive(gap, *means) else a if (gap.mean > 0) == upwards else b
        yield dataset, nfe, metric, *means, gap.mean, gap.low, gap.high, gap.count, gap.interval_over, better


def decisive(gap: Summary, a: float, b: float) -> bool:
    """Whether the interval of a paired difference of the means a and b excludes 0, and it is more than rounding."""
    return (gap.low > 0 or gap.high < 0) and abs(gap.mean) > ROUNDING * max(abs(a), abs(b))


def text(table: pd.DataFrame, a: str, b: str) -> str:
    """The comparison for a terminal, and how to read it."""
    shown = pd.DataFrame(
        {
            "dataset": table["dataset"],
            "NFE": table["nfe"],
            "metric": table["metric"],
            a: table["a"].map(human),
            b: table["b"].map(human),
            "difference": [plus_minus(r.difference, r.low, r.high) for r in table.itertuples()],
            "better": table["better"].replace("", "undecided"),
        }
    )
    over = ", ".join(sorted(set(table["interval_over"]))).replace("_", " ").replace("none", "nothing (one value each)")
    foot = (
        f"difference: {a} minus {b} on the same latents, ± half its 95 % t-interval over {over}.\n"
        "better: the entrant that is better beyond the interval; no correction for the number of rows."
    )
    return f"{shown.to_string(index=False)}\n\n{foot}"
