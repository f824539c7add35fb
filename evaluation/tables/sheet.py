"""A filled table as lines of text with notes below, the same for Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.leaderboard import MARK, human, plus_minus
from evaluation.papers import Row, Table
from evaluation.papers.names import label_of
from evaluation.tables import notes
from evaluation.tables.against import sentences
from evaluation.tables.fill import Cell, Filled, named
from evaluation.tables.notes import ADDED
from fewstep.plan import Plan

MISSING = "–"  # the paper has no such value, or it was not found


@dataclass(frozen=True)
class Block:
    """Lines under one header; `heading` says whose they are where a sheet has several blocks."""

    heading: str
    header: list[str]
    lines: list[list[str]]


@dataclass(frozen=True)
class Sheet:
    """What is written: a title, blocks of lines and notes. `name` is the file's."""

    name: str
    title: str
    blocks: list[Block]
    notes: list[str]


def sheet(filled: Filled, plan: Plan) -> Sheet:
    """The readable form of a filled table."""
    if filled.analogue is None:
        return _printed_sheet(filled, plan)
    return _analogue_sheet(filled, plan)


def _printed_sheet(filled: Filled, plan: Plan) -> Sheet:
    """Each printed line, with ours below it where the row has a counterpart; ours alone where no value was found."""
    paper, table = filled.paper, filled.table
    kept = [i for i in range(len(table.columns)) if any(_has_number(line[i]) for line in filled.cells)]
    lines = []
    for row, line in zip(table.rows, filled.cells, strict=True):
        cells = [line[i] for i in kept]
        ours = ": ".join(filter(None, ["ours", named(cells)]))
        if row.entrant and not row.values:
            ours = f"{row.label}{ADDED * row.ours}, {ours}"
        else:
            lines.append(_published_line(table, row, cells))
        if row.entrant:
            lines.append(_our_line(table, ours, row, cells, table.minimum_of))
    columns = [table.columns[i] for i in kept]
    block = Block("", _header(table, [column.label + ADDED * column.ours for column in columns]), lines)
    datasets = list(dict.fromkeys(cell.dataset for line in filled.cells for cell in line if cell.ours))
    below = [
        *notes.source(paper, table, filled.cells),
        notes.protocol(plan, datasets),
        *notes.added(table),
        *notes.chosen(table),
        *sentences(filled),
        *notes.warnings(filled),
        *notes.verdict_notes(
            filled, any(plan.study.datasets[d].pretrained for d in datasets if d in plan.study.datasets)
        ),
        *notes.remarks(paper, table),
    ]
    return Sheet(filled.name, f"{paper.label}: {table.title} – published and ours", [block], below)


def _analogue_sheet(filled: Filled, plan: Plan) -> Sheet:
    """Published and ours in two blocks: other data, often another metric, no verdict."""
    paper, table, at = filled.paper, filled.table, filled.table.analogue
    what = " / ".join(dict.fromkeys(label_of(cell.metric) for cell in filled.analogue[0]))
    ours = []
    for row, cells in zip(table.rows, filled.analogue, strict=True):
        label = row.label + ADDED * row.ours
        row = row.model_copy(update={"nfe": at.nfe or at.nfe_for(row.nfe)})
        ours.append(_our_line(table, f"{label} ({named(cells)})" if named(cells) else label, row, cells))
    printed = next(cells for row, cells in zip(table.rows, filled.analogue, strict=True) if not row.ours)
    columns = [cell.column + ADDED * cell.added for cell in printed]
    blocks = [*_published_block(filled), Block(f"Ours: {at.dataset}, {what}", _header(table, columns), ours)]
    below = [
        notes.difference(filled, what),
        *([at.note] if at.note else []),
        *notes.source(paper, table, filled.cells),
        notes.protocol(plan, [at.dataset]),
        *notes.added(table),
        *notes.chosen(table),
        *sentences(filled),
        *notes.warnings(filled),
        *notes.remarks(paper, table),
    ]
    return Sheet(filled.name, f"{paper.label}: {table.title} – analogue on {at.dataset}", blocks, below)


def _published_block(filled: Filled) -> list[Block]:
    """The rows and columns of which a value was found; no block without any."""
    table = filled.table
    columns = [column for column in table.columns if not column.ours]
    rows = [row for row in table.rows if not row.ours]
    found = [(row, cells) for row, cells in zip(rows, filled.cells, strict=True) if _any_found(cells)]
    kept = [i for i in range(len(columns)) if _any_found([cells[i] for _, cells in found])]
    if not found:
        return []
    lines = [_published_line(table, row, [cells[i] for i in kept]) for row, cells in found]
    heading = f"Published: {notes.printed_on(filled.cells)}"
    return [Block(heading, _header(table, [columns[i].label for i in kept]), lines)]


def _has_number(cell: Cell) -> bool:
    return cell.published is not None or cell.ours is not None


def _any_found(cells: list[Cell]) -> bool:
    return any(cell.published is not None for cell in cells)


def _header(table: Table, columns: list[str]) -> list[str]:
    return ["method", *(["NFE"] if _rows_have_nfe(table) else []), *columns]


def _rows_have_nfe(table: Table) -> bool:
    return any(row.nfe for row in table.rows)


def _nfe(table: Table, row: Row) -> list[str]:
    return [str(row.nfe or "")] if _rows_have_nfe(table) else []


def _published_line(table: Table, row: Row, cells: list[Cell]) -> list[str]:
    return [row.label, *_nfe(table, row), *(MISSING if c.published is None else str(c.published) for c in cells)]


def _our_line(table: Table, label: str, row: Row, cells: list[Cell], minimum_of: int | None = None) -> list[str]:
    return [label, *_nfe(table, row), *(our_text(cell, minimum_of) for cell in cells)]


def our_text(cell: Cell, minimum_of: int | None = None) -> str:
    """Ours ± half the interval with the verdict, or why there is none."""
    if cell.ours is None:
        return "not run" if cell.wanted else MISSING
    if not cell.ours.has_value:
        return cell.ours.status.replace("_", " ")
    summary = cell.ours.summary
    text = plus_minus(summary.mean, summary.low, summary.high)
    text += MARK * bool(cell.ours.warning)
    text += f", least {human(cell.ours.smallest)}" if minimum_of and summary.count > 1 else ""
    text += f" ({cell.entrant}, NFE {cell.nfe})" if cell.chosen else ""
    return f"{text}, {cell.verdict}" if cell.verdict else text
