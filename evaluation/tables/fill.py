"""Fills published tables with our numbers: as they stand, or on a small dataset as an analogue."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from evaluation.papers import Column, Paper, Row, Table
from evaluation.papers.names import label_of
from evaluation.tables.counterpart import counterpart
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
    nfe: int | None  # of the row or column; of the best of several entrants, and of a control, its own
    published: Decimal | None = None
    confidence: str = ""  # of the published value
    entrant: str = ""
    wanted: bool = False  # its row has a counterpart, and a value is published or may be: see `_wanted`
    added: bool = False  # its row or column is ours, not the paper's
    chosen: bool = False  # its entrant is the best of several
    ours: Ours | None = None
    verdict: str = ""
    obstacles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filled:
    """A published table with our numbers. `cells` are as printed; on an analogue ours stand apart, in `analogue`.

    Of the rows that are ours alone, `table` keeps those that the study has.
    """

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

    @property
    def counts(self) -> bool:
        """Whether the study has any number in the paper's own rows and columns: controls alone make no table."""
        return any(not cell.added for cell in self.ours)


def as_printed(key: str, paper: Paper, table: Table, measured: Measured, plan: Plan) -> Filled:
    """A table beside our numbers on the same datasets and metrics, with a verdict where the protocols agree too."""

    def line(row: Row, costs: list[float]) -> list[Cell]:
        pairs = zip(table.line(row), costs, strict=True)
        return [_cell(table, row, *printed, measured, plan, cost) for printed, cost in pairs]

    kept, lines = _kept(table, _lines(table, measured, line, len(table.columns)))
    return Filled(paper, kept, key, lines)


def on_analogue(key: str, paper: Paper, table: Table, measured: Measured) -> Filled | None:
    """A table beside our numbers on its analogue, if it has one: never set against each other, so without verdicts.

    Columns that differ there in nothing (in their dataset, or in which metric of image features they show) are one.
    """
    if table.analogue is None:
        return None
    groups: dict[Column, list[Column]] = defaultdict(list)
    for column in table.columns:
        groups[_there(table, column)].append(column)

    def line(row: Row, costs: list[float]) -> list[Cell]:
        values = dict(table.line(row))
        return [
            _cell_there(table, row, at, {c: values[c] for c in cs}, measured, cost)
            for (at, cs), cost in zip(groups.items(), costs, strict=True)
        ]

    kept, ours = _kept(table, _lines(table, measured, line, len(groups)))
    printed = [
        [
            Cell(row.label, column.label, *_place(table, row, column), value, row.confidence or table.confidence)
            for column, value in table.line(row)
            if not column.ours
        ]
        for row in kept.rows
        if not row.ours
    ]
    return Filled(paper, kept, key, printed, ours)


def _lines(
    table: Table, measured: Measured, line: Callable[[Row, list[float]], list[Cell]], width: int
) -> list[list[Cell]]:
    """The rows' lines; `line` gets what a sample costs in each cell of the row that a row is as costly as."""
    lines: dict[int, list[Cell]] = {}
    costs = {"": [math.nan] * width}  # GFLOP by the row's label
    for i, row in sorted(enumerate(table.rows), key=lambda pair: bool(pair[1].as_costly_as)):
        lines[i] = line(row, costs[row.as_costly_as])
        costs[row.label] = [measured.gflop(cell.dataset, cell.entrant, cell.nfe) for cell in lines[i]]
    return [lines[i] for i in range(len(lines))]


def _kept(table: Table, lines: list[list[Cell]]) -> tuple[Table, list[list[Cell]]]:
    """The table and its lines without the rows of ours that the study has nothing of."""
    pairs = [(row, line) for row, line in zip(table.rows, lines, strict=True) if not row.ours or _entrants(line)]
    return table.model_copy(update={"rows": [row for row, _ in pairs]}), [line for _, line in pairs]


def _entrants(line: list[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.entrant for cell in line if cell.entrant))


def named(line: list[Cell]) -> str:
    """The entrant that a line is of, or the models where its cells have several; "" without a counterpart."""
    entrants = _entrants([cell for cell in line if not cell.chosen])  # a chosen one is named in its cell
    models = dict.fromkeys(entrant.partition("/")[0] for entrant in entrants)
    return " / ".join(entrants if len(entrants) == 1 else models)


def _there(table: Table, column: Column) -> Column:
    """A column as it is on the analogue, labelled by all that tells it from the others there."""
    metric = table.analogue.metric_for(column.metric or table.metric)
    solver = registry.discover().get(column.solver)
    rows_have_it = any(row.nfe for row in table.rows)
    own = table.analogue.nfe_for(column.nfe)
    nfe = own or (not rows_have_it and (table.analogue.nfe or table.analogue.nfe_for(table.nfe)))
    parts = [solver.label if solver else column.solver, f"NFE {nfe}" if nfe else ""]
    parts.insert(0, label_of(metric) if metric != table.analogue.metric or not any(parts) else "")
    return Column(label=", ".join(filter(None, parts)), nfe=own, solver=column.solver, metric=metric)


def _cell_there(
    table: Table, row: Row, at: Column, printed: dict[Column, Decimal | None], measured: Measured, cost: float
) -> Cell:
    """Our cell on the analogue in place of those that are printed in some columns."""
    there = table.analogue.dataset
    nfe = at.nfe or table.analogue.nfe or table.analogue.nfe_for(row.nfe or table.nfe)
    found = counterpart(measured, row, there, at.solver, nfe, at.metric, cost)
    added = row.ours or all(column.ours for column in printed)
    wanted = _wanted(row, list(printed.values()), found.entrant, added)
    place = (row.label, at.label, there, at.metric, found.nfe)
    return Cell(*place, None, "", found.entrant, wanted, added, found.chosen, found.ours)


def _wanted(row: Row, published: list[Decimal | None], entrant: str, added: bool) -> bool:
    """Whether a cell without a number of ours is a gap.

    It is where a value is published, or would be had the row's been found, or the cell is ours alone; and not where the
    model is there and has no such metric, as one without a code has no code entropy.
    """
    asked = added or not row.values or any(value is not None for value in published)
    return bool(row.entrant) and asked and (not entrant or "/" in entrant)


def _place(table: Table, row: Row, column: Column) -> tuple[str, str, int | None]:
    """Dataset, metric and NFE of a cell."""
    return column.dataset or table.dataset, column.metric or table.metric, column.nfe or row.nfe or table.nfe


def _cell(
    table: Table, row: Row, column: Column, value: Decimal | None, measured: Measured, plan: Plan, cost: float
) -> Cell:
    dataset, metric, nfe = _place(table, row, column)
    found = counterpart(measured, row, dataset, column.solver, nfe, our_metric(table, metric), cost)
    entrant, ours, added = found.entrant, found.ours, row.ours or column.ours
    wanted, sure = _wanted(row, [value], entrant, added), row.confidence or table.confidence
    place = (row.label, column.label, dataset, metric, found.nfe)
    cell = Cell(*place, value, sure, entrant, wanted, added, found.chosen, ours)
    if ours is None or value is None or not ours.has_value:
        return cell
    against = obstacles(table, row, metric, ours, params_of(plan, dataset, entrant))
    if against:
        return replace(cell, obstacles=tuple(against))
    return replace(cell, verdict=verdict(metric, float(value), ours, minimum=bool(table.minimum_of)))


def params_of(plan: Plan, dataset: str, entrant: str) -> dict[str, Any]:
    """The parameters of an entrant's sampler in the study; `schedule: auto` as its model's own."""
    model, _, solver = entrant.partition("/")
    baseline, _, accelerator = model.partition("+")
    known = registry.discover()
    sampler = known.get((accelerator or NONE) if solver == OWN else solver)
    if sampler is None or dataset not in plan.study.datasets:
        return {}
    params = plan.params(dataset, sampler)
    if params.get("schedule") == "auto" and baseline in known:
        own = known[accelerator].card.schedule if accelerator in known else None
        params = {**params, "schedule": own or known[baseline].card.schedule}
    return params
