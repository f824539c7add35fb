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
        controls = points.loc[points["kind"] == "control", ["dataset", "entrant"]]
        self._controls = set(controls.itertuples(index=False, name=None))
        self._nfes: dict[tuple[str, str], list[int]] = {}
        for dataset, name, nfe in sorted(self._points):
            self._nfes.setdefault((dataset, name), []).append(int(nfe))
        self._names: dict[str, list[str]] = {}
        for dataset, name in sorted({key[:2] for key in [*self._points, *self._models]}):
            self._names.setdefault(dataset, []).append(name)

    def fitting(self, dataset: str, patterns: Iterable[str], solver: str = "") -> list[str]:
        """All entrants that a row's patterns stand for, in the patterns' order and then by name.

        A pattern without a slash stands for a control, or for a model: for itself, or for its entrant with `solver`.
        """
        names, found = self._names.get(dataset, []), []
        for pattern in patterns:
            alone = "/" in pattern or (dataset, pattern) in self._controls
            pattern = f"{pattern}/{solver}" if solver and not alone else pattern
            slashes = pattern.count("/")
            found += [name for name in names if name.count("/") == slashes and fnmatchcase(name, pattern)]
        return list(dict.fromkeys(found))

    def entrant(self, dataset: str, patterns: Iterable[str], solver: str = "", nfe: int | None = None) -> str:
        """The first entrant that a row's patterns stand for and that has this NFE, else the first of all; or "".

        A model made for one NFE so stands beside its kin made for another. Models and controls are called at none.
        """
        found = self.fitting(dataset, patterns, solver)
        has_it = (name for name in found if "/" not in name or nfe in self.nfes(dataset, name))
        return next(has_it, next(iter(found), ""))

    def nfes(self, dataset: str, entrant: str) -> list[int]:
        """The NFEs of an entrant in the study, from few to many."""
        return self._nfes.get((dataset, entrant), [])

    def nfe_of(self, dataset: str, entrant: str, nfe: int | None) -> int | None:
        """The NFE by which a cell's value is found: the cell's; a control, which calls no network, has its own."""
        return self.nfes(dataset, entrant)[0] if (dataset, entrant) in self._controls else nfe

    def gflop(self, dataset: str, entrant: str, nfe: int | None) -> float:
        """What a sample costs, the mean over training seeds; nan where that is not known."""
        rows = self._points.get((dataset, entrant, nfe))
        if rows is None:
            return math.nan
        return float(self._records.loc[rows].groupby("train_seed")["gflop_per_sample"].first().mean())

    def training_free(self, dataset: str, entrant: str) -> bool:
        """Whether it is a baseline's own network with a solver that is not fitted to it."""
        model, slash, _ = entrant.partition("/")
        rows = [row for nfe in self.nfes(dataset, entrant) for row in self._points[dataset, entrant, nfe]]
        fits = self._records.loc[rows, ["fit_seconds", "fit_teacher_calls"]]
        return bool(slash) and "+" not in model and bool(fits.isna().all(axis=None))

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
