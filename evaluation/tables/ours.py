"""What the study measured, looked up by the coordinates of a published cell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import pandas as pd

from evaluation.records import typed, worst
from evaluation.statistics import Summary, Values, summarise


@dataclass(frozen=True)
class Ours:
    """One of our numbers, or the status that stands in its place."""

    status: str
    reason: str = ""
    summary: Summary = field(default_factory=Summary)
    smallest: float = math.nan  # over the seed blocks
    n_generated: int | None = None  # samples behind each block's value
    n_reference: int | None = None
    warning: str = ""
    values: Values = field(default_factory=Values, compare=False, repr=False)  # by training seed and block

    @property
    def has_value(self) -> bool:
        return self.status == "ok" and math.isfinite(self.summary.mean)


class Measured:
    """A study's records by entrant and NFE, and by model for what needs no sampler."""

    def __init__(self, records: pd.DataFrame):
        self._records = typed(records)
        models = self._records["kind"] == "reference"
        points = self._records[~models]
        self._points = _rows(points, ["dataset", "entrant", "nfe"])
        self._models = _rows(self._records[models], ["dataset", "model"])
        self._of_models = set(self._records.loc[models, "metric"]) - {""}
        self._names: dict[str, list[str]] = {}
        for dataset, name in sorted({key[:2] for key in [*self._points, *self._models]}):
            self._names.setdefault(dataset, []).append(name)

    def entrant(self, dataset: str, patterns: Iterable[str], solver: str = "") -> str:
        """The entrant that a row's patterns stand for: of the first pattern that fits any, the first by name; or "".

        A pattern without a slash stands for a model: for the model itself, or for its entrant with `solver`.
        """
        names = self._names.get(dataset, [])
        for pattern in patterns:
            pattern = f"{pattern}/{solver}" if solver and "/" not in pattern else pattern
            slashes = pattern.count("/")
            fitting = (name for name in names if name.count("/") == slashes and fnmatchcase(name, pattern))
            if found := next(fitting, ""):
                return found
        return ""

    def look_up(self, dataset: str, entrant: str, nfe: int | None, metric: str) -> Ours | None:
        """Our number of an entrant or model; None where the study has no such point, or not this metric of it."""
        if metric in self._of_models:
            model, _, _ = entrant.partition("/")
            rows = self._models.get((dataset, model))
        else:
            rows = self._points.get((dataset, entrant, nfe))
        if rows is None:
            return None
        rows = self._records.loc[rows]
        own = rows[rows["metric"].isin(["", metric])]
        if own.empty:
            return None
        if (status := worst(list(own["status"]))) != "ok":
            return Ours(status, own.loc[own["status"] == status, "reason"].iloc[0])
        values = Values.read(own)
        return Ours(
            status,
            summary=summarise(values),
            smallest=min(values.of.values()),
            n_generated=_single(own["n_generated"]),
            n_reference=_single(own["n_reference"]),
            warning="; ".join(sorted(set(own["warning"]) - {""})),
            values=values,
        )


def _rows(frame: pd.DataFrame, keys: list[str]) -> dict[tuple, pd.Index]:
    """Row labels by key."""
    return {tuple(key): frame.index[rows] for key, rows in frame.groupby(keys, dropna=False).indices.items()}


def _single(counts: pd.Series) -> int | None:
    """The one value of a column, or None where there are several or none."""
    found = set(counts.dropna().astype(int))
    return found.pop() if len(found) == 1 else None
