"""Fills published tables with our numbers: as they stand, or on a small dataset as an analogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from evaluation.papers import Column, Paper, Row, Table, label_of
from evaluation.tables.ours import Measured, Ours
from evaluation.tables.verdict import obstacles, our_metric, verdict
from fewstep import registry
from fewstep.plan import NONE, OWN, Plan


@dataclass(frozen=True)
class Cell:
    """One cell: what is published there, and what is ours."""

    row: str
    column: str
    dataset: str
    metric: str
    nfe: int | None
    published: Decimal | None = None
    confidence: str = ""  # of the published value
    entrant: str = ""
    wanted: bool = False  # there is a published value and a counterpart of its row
    ours: Ours | None = None
    verdict: str = ""
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filled:
    """A published table with our numbers. `cells` are as printed; on an analogue ours stand apart, in `analogue`."""

    paper: Paper
    table: Table
    key: str  # <paper>_<table>
    cells: list[list[Cell]]
    analogue: list[list[Cell]] | None = None

    @property
    def name(self) -> str:
        """The file's."""
        return self.key if self.analogue is None else f"{self.key}_on_{self.table.analogue.dataset}"

    @property
    def ours(self) -> list[Cell]:
        """The cells that hold a number of ours."""
        cells = self.cells if self.analogue is None else self.analogue
        return [cell for line in cells for cell in line if cell.ours and cell.ours.has_value]


def as_printed(key: str, paper: Paper, table: Table, measured: Measured, plan: Plan) -> Filled:
    """A table beside our numbers on the same datasets and metrics, with a verdict where the protocols agree too."""
    lines = [[_cell(table, row, *pair, measured, plan) for pair in _pairs(table, row)] for row in table.rows]
    return Filled(paper, table, key, lines)


def on_analogue(key: str, paper: Paper, table: Table, measured: Measured) -> Filled | None:
    """A table beside our numbers on its analogue, if it has one: never set against each other, so without verdicts.

    Columns that differ in their dataset or metric alone are one on the analogue.
    """
    if table.analogue is None:
        return None
    there, metric = table.analogue.dataset, table.analogue.metric
    printed = [
        [
            Cell(row.label, column.label, *_place(table, row, column), value, row.confidence or table.confidence)
            for column, value in _pairs(table, row)
        ]
        for row in table.rows
    ]
    ours = []
    for row in table.rows:
        entrant, line = measured.entrant(there, row.entrant), []
        for nfe in dict.fromkeys(column.nfe for column in table.columns):
            label = f"NFE {nfe or table.nfe}" if nfe or table.nfe else label_of(metric)
            values = [value for column, value in _pairs(table, row) if column.nfe == nfe]
            wanted = bool(row.entrant) and any(value is not None for value in values)
            nfe = nfe or row.nfe or table.nfe
            found = measured.look_up(there, entrant, nfe, metric)
            line.append(Cell(row.label, label, there, metric, nfe, None, "", entrant, wanted, found))
        ours.append(line)
    return Filled(paper, table, key, printed, ours)


def _pairs(table: Table, row: Row) -> list[tuple[Column, Decimal | None]]:
    return list(zip(table.columns, row.values, strict=True))


def _place(table: Table, row: Row, column: Column) -> tuple[str, str, int | None]:
    """Dataset, metric and NFE of a cell."""
    return column.dataset or table.dataset, column.metric or table.metric, column.nfe or row.nfe or table.nfe


def _cell(table: Table, row: Row, column: Column, value: Decimal | None, measured: Measured, plan: Plan) -> Cell:
    dataset, metric, nfe = _place(table, row, column)
    entrant = measured.entrant(dataset, row.entrant)
    ours = measured.look_up(dataset, entrant, nfe, our_metric(table, metric))
    wanted = bool(row.entrant) and value is not None
    sure = row.confidence or table.confidence
    cell = Cell(row.label, column.label, dataset, metric, nfe, value, sure, entrant, wanted, ours)
    if ours is None or value is None or not ours.has_value:
        return cell
    against = obstacles(table, row, metric, ours, params_of(plan, dataset, entrant))
    if against:
        return replace(cell, obstacles=tuple(against))
    return replace(cell, verdict=verdict(metric, float(value), ours, minimum=bool(table.minimum_of)))


def params_of(plan: Plan, dataset: str, entrant: str) -> dict[str, Any]:
    """The parameters of an entrant's sampler in the study; `schedule: auto` as the baseline's own."""
    model, _, solver = entrant.partition("/")
    baseline, _, accelerator = model.partition("+")
    known = registry.discover()
    sampler = known.get((accelerator or NONE) if solver == OWN else solver)
    if sampler is None or dataset not in plan.study.datasets:
        return {}
    params = plan.params(dataset, sampler)
    if params.get("schedule") == "auto" and baseline in known:
        params = {**params, "schedule": known[baseline].card.schedule}
    return params
