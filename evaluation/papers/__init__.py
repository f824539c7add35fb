"""Published numbers: one YAML file a paper, with where each number stands and how sure it is.

A cell's coordinates (dataset, metric, NFE) come from its column, its row and its table, in this order; what is null was
not found. `entrant` says which of ours a row corresponds to; a row without one has no counterpart here. Rows and
columns marked `ours` are not in the paper: controls and measurements that a reader needs beside it.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, field_validator, model_validator

from evaluation.metrics import METRICS
from evaluation.papers.names import CONFIDENCE, DATASETS, ON_FEATURES, PRINTED, Extractor
from fewstep import registry
from fewstep.errors import UserError
from fewstep.schema import Strict, parse
from fewstep.suggest import unknown

FOLDER = Path(__file__).parent


class Analogue(Strict):
    """A small dataset on which the same rows can be run. Its numbers are never set against the published ones."""

    dataset: str
    metric: str = ""  # in place of FID and of all else that is taken on image features
    nfe: PositiveInt | None = None  # in place of the table's and its rows', e.g. of an adaptive solver's own count
    calls: dict[PositiveInt, PositiveInt] = {}  # NFE here where the paper has another: {100: 10} shows 10 for its 100
    note: str = ""

    def metric_for(self, printed: str) -> str:
        """What is measured here where the paper prints `printed`."""
        return self.metric if printed in ON_FEATURES else printed

    def nfe_for(self, printed: int | None) -> int | None:
        """At which NFE ours are shown where the paper prints `printed`."""
        return self.calls.get(printed, printed)


class Column(Strict):
    """A printed column; what is empty is the row's or the table's."""

    label: str
    nfe: PositiveInt | None = None
    solver: str = ""  # of ours, for rows that name a model alone
    dataset: str = ""
    metric: str = ""
    ours: bool = False  # not in the paper


class Row(Strict):
    """A printed row: a method with one value a column, null where the source has none or it was not found."""

    label: str
    values: list[Decimal | None] = []  # one a column of the paper, as printed; without any, none was found
    nfe: PositiveInt | None = None
    # Our entrants, e.g. edm/euler or rf+reflow/*, models, e.g. rf+reflow, or a control, e.g. data; the first that the
    # study has at the cell's NFE, or else the first that it has.
    entrant: list[str] = []
    # Instead of the first, the best of all that fit: of those without an accelerator or a solver that is fitted.
    best_of: Literal["training_free"] | None = None
    as_costly_as: str = ""  # a row: the best at any NFE up to the least that costs no fewer FLOPs a sample than it
    ours: bool = False  # not in the paper; shown where the study has it
    against: list[str] = []  # rows that ours is compared with: a sentence each below the table
    params: dict[str, Any] = {}  # what the sampler's parameters must be for a verdict
    confidence: str = ""  # default: the table's
    note: str = ""

    @field_validator("entrant", "against", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("params")
    @classmethod
    def _floats(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: float(v) if isinstance(v, Decimal) else v for name, v in value.items()}


class Table(Strict):
    """A printed table, or the part of it that was found."""

    title: str
    source: str  # table number, section, README
    confidence: str
    dataset: str = ""
    metric: str = ""
    nfe: PositiveInt | None = None
    n_generated: PositiveInt | None = None
    n_reference: PositiveInt | None = None
    reference: str = ""  # the reference set, in words
    fid_code: str = ""
    extractor: Extractor = ""
    minimum_of: PositiveInt | None = None  # the paper prints the best of so many runs
    note: str = ""
    columns: list[Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)
    analogue: Analogue | None = None

    def line(self, row: Row) -> list[tuple[Column, Decimal | None]]:
        """A row's values with their columns; null throughout where none was found, and in columns of ours."""
        values = iter(row.values)
        return [(column, None if column.ours else next(values, None)) for column in self.columns]

    @property
    def has_values(self) -> bool:
        """Whether any published value was found."""
        return any(value is not None for row in self.rows for value in row.values)

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        for row in self.rows:
            self._check(row)
            self._check_rivals(row)
            self._check_best(row)
        for column in self.columns:
            _known("dataset", column.dataset or self.dataset, DATASETS)
            _known("metric", column.metric or self.metric, [*METRICS, *PRINTED])
            if self.analogue:
                _known("metric of the analogue", self.analogue.metric_for(column.metric or self.metric), METRICS)
        for name in (self.confidence, *(row.confidence for row in self.rows if row.confidence)):
            _known("confidence", name, CONFIDENCE)
        if all(row.ours for row in self.rows) or all(column.ours for column in self.columns):
            raise ValueError("at least one row and one column must be the paper's")
        if (self.confidence == "missing") == self.has_values:
            raise ValueError("confidence is 'missing' exactly where no row has a value")
        return self

    def _check(self, row: Row) -> None:
        printed = sum(not column.ours for column in self.columns)
        if row.values and row.ours:
            raise ValueError(f"row {row.label!r} is ours, so it has no published values")
        if row.values and len(row.values) != printed:
            raise ValueError(f"row {row.label!r} has {len(row.values)} values for {printed} columns")
        if row.nfe and any(column.nfe for column in self.columns):
            raise ValueError(f"row {row.label!r} and a column both set the NFE")
        sampled = [c.label for c in self.columns if not c.solver and (c.metric or self.metric) in ON_FEATURES]
        if sampled and any("/" not in p and p not in registry.of_kind("control") for p in row.entrant):
            raise ValueError(f"row {row.label!r} names a model alone, and column {sampled[0]!r} no solver")

    def _check_rivals(self, row: Row) -> None:
        labels = [other.label for other in self.rows]
        for label in row.against:
            _known("row", label, labels)
            if label == row.label or labels.count(label) > 1 or labels.count(row.label) > 1:
                raise ValueError(f"row {row.label!r} against {label!r}: needs two rows, each with a label of its own")

    def _check_best(self, row: Row) -> None:
        if row.best_of and not (row.ours and row.entrant):
            raise ValueError(f"row {row.label!r} is the best of several entrants; write `ours: true` and `entrant`")
        if not row.as_costly_as:
            return
        if not row.best_of:
            raise ValueError(f"row {row.label!r}: as_costly_as chooses among entrants; write `best_of: training_free`")
        _known("row", row.as_costly_as, [other.label for other in self.rows])
        equals = [other for other in self.rows if other.label == row.as_costly_as]
        if len(equals) > 1 or not equals[0].entrant or equals[0].as_costly_as:
            raise ValueError(f"row {row.label!r} as costly as {row.as_costly_as!r}: needs one row with an entrant")


class Paper(Strict):
    """A paper, or a repository that publishes numbers."""

    label: str
    title: str
    arxiv: str = ""
    bibtex: str
    note: str = ""
    tables: dict[str, Table] = Field(min_length=1)


def _known(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise ValueError(unknown(what, name, names))


class _Loader(yaml.SafeLoader):
    """Keeps a number's printed digits: 2.10 is not 2.1."""


_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Decimal(loader.construct_scalar(node)))


def read(file: Path) -> Paper:
    """One paper's file, checked. Raises UserError naming the file, the place and the nearest key."""
    try:
        content = yaml.load(file.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from None
    return parse(Paper, content, str(file))


@cache
def papers() -> dict[str, Paper]:
    """All papers by file name, sorted."""
    return {file.stem: read(file) for file in sorted(FOLDER.glob("[!_]*.yaml"))}
