"""Fills published tables with our numbers: as they stand, or on a small dataset as an analogue."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from evaluation.papers import Column, Paper, Row, Table
from evaluation.papers.names import label_of
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
    wanted: bool = False  # its row has a counterpart, and a value is published or may be: see `_wanted`
    added: bool = False  # its row or column is ours, not the paper's
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
    lines = [[_cell(table, row, *pair, measured, plan) for pair in table.line(row)] for row in table.rows]
    kept, lines = _kept(table, lines)
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
    ours = []
    for row in table.rows:
        values = dict(table.line(row))
        ours.append([_cell_there(table, row, at, {c: values[c] for c in cs}, measured) for at, cs in groups.items()])
    kept, ours = _kept(table, ours)
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


def _kept(table: Table, lines: list[list[Cell]]) -> tuple[Table, list[list[Cell]]]:
    """The table and its lines without the rows of ours that the study has nothing of."""
    pairs = [(row, line) for row, line in zip(table.rows, lines, strict=True) if not row.ours or _entrants(line)]
    return table.model_copy(update={"rows": [row for row, _ in pairs]}), [line for _, line in pairs]


def _entrants(line: list[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.entrant for cell in line if cell.entrant))


def named(line: list[Cell]) -> str:
    """The entrant that a line is of, or the model where its cells have several; "" without a counterpart."""
    entrants = _entrants(line)
    models = dict.fromkeys(entrant.partition("/")[0] for entrant in entrants)
    return " / ".join(entrants if len(entrants) == 1 else models)


def _there(table: Table, column: Column) -> Column:
    """A column as it is on the analogue, labelled by all that tells it from the others there."""
    metric = table.analogue.metric_for(column.metric or table.metric)
    solver = registry.discover().get(column.solver)
    rows_have_it = any(row.nfe for row in table.rows)
    nfe = column.nfe or (not rows_have_it and table.analogue.nfe) or table.nfe
    parts = [solver.label if solver else column.solver, f"NFE {nfe}" if nfe else ""]
    parts.insert(0, label_of(metric) if metric != table.analogue.metric or not any(parts) else "")
    return Column(label=", ".join(filter(None, parts)), nfe=column.nfe, solver=column.solver, metric=metric)


def _cell_there(table: Table, row: Row, at: Column, printed: dict[Column, Decimal | None], measured: Measured) -> Cell:
    """Our cell on the analogue in place of those that are printed in some columns."""
    there, nfe = table.analogue.dataset, at.nfe or table.analogue.nfe or row.nfe or table.nfe
    entrant = measured.entrant(there, row.entrant, at.solver)
    ours = measured.look_up(there, entrant, nfe, at.metric)
    added = row.ours or all(column.ours for column in printed)
    wanted = _wanted(row, list(printed.values()), entrant, added)
    return Cell(row.label, at.label, there, at.metric, nfe, None, "", entrant, wanted, added, ours)


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


def _cell(table: Table, row: Row, column: Column, value: Decimal | None, measured: Measured, plan: Plan) -> Cell:
    dataset, metric, nfe = _place(table, row, column)
    entrant = measured.entrant(dataset, row.entrant, column.solver)
    ours = measured.look_up(dataset, entrant, nfe, our_metric(table, metric))
    added = row.ours or column.ours
    wanted = _wanted(row, [value], entrant, added)
    sure = row.confidence or table.confidence
    cell = Cell(row.label, column.label, dataset, metric, nfe, value, sure, entrant, wanted, added, ours)
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
