"""A filled table as lines of text with notes below, the same for Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.leaderboard import MARK, human, plus_minus
from evaluation.papers import CONFIDENCE, DATASETS, Paper, Row, Table, label_of
from evaluation.tables.fill import Cell, Filled
from evaluation.tables.verdict import TOLERANCES
from fewstep.config import DatasetStudy
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
    """Each printed line, with ours below it where the row has a counterpart."""
    paper, table = filled.paper, filled.table
    lines = []
    for row, cells in zip(table.rows, filled.cells, strict=True):
        lines.append(_published_line(table, row, cells))
        if row.entrant:
            entrant = next((cell.entrant for cell in cells if cell.entrant), "")
            lines.append(_our_line(table, f"ours: {entrant}" if entrant else "ours", row, cells, table.minimum_of))
    block = Block("", _header(table, [column.label for column in table.columns]), lines)
    datasets = list(dict.fromkeys(cell.dataset for line in filled.cells for cell in line if cell.ours))
    notes = [
        *_source(paper, table, filled.cells),
        _protocol(plan, datasets),
        *_warnings(filled),
        *_verdict_notes(filled),
        *_remarks(paper, table),
    ]
    return Sheet(filled.name, f"{paper.label}: {table.title} – published and ours", [block], notes)


def _analogue_sheet(filled: Filled, plan: Plan) -> Sheet:
    """Published and ours in two blocks: other data, another metric, no verdict."""
    paper, table, at = filled.paper, filled.table, filled.table.analogue
    what = label_of(at.metric)
    published = [_published_line(table, row, cells) for row, cells in zip(table.rows, filled.cells, strict=True)]
    ours = [
        _our_line(table, f"{row.label} ({cells[0].entrant})" if cells[0].entrant else row.label, row, cells)
        for row, cells in zip(table.rows, filled.analogue, strict=True)
    ]
    blocks = [
        Block(f"Published: {_printed_on(filled.cells)}", _header(table, [c.label for c in table.columns]), published),
        Block(f"Ours: {at.dataset}, {what}", _header(table, [c.column for c in filled.analogue[0]]), ours),
    ]
    notes = [
        f"An analogue, not a reproduction: ours are {what} on {at.dataset}, other data and another metric than "
        "published. Compare the order of the methods, not the numbers.",
        *([at.note] if at.note else []),
        *_source(paper, table, filled.cells),
        _protocol(plan, [at.dataset]),
        *_warnings(filled),
        *_remarks(paper, table),
    ]
    return Sheet(filled.name, f"{paper.label}: {table.title} – analogue on {at.dataset}", blocks, notes)


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
    return f"{text}, {cell.verdict}" if cell.verdict else text


def _printed_on(cells: list[list[Cell]]) -> str:
    """`CIFAR-10, FID`; the first few where there are many."""
    places = list(dict.fromkeys((DATASETS[c.dataset], label_of(c.metric)) for line in cells for c in line))
    datasets, metrics = (list(dict.fromkeys(names)) for names in zip(*places, strict=True))
    return f"{' / '.join(datasets)}, {' / '.join(metrics)}"


def _source(paper: Paper, table: Table, cells: list[list[Cell]]) -> list[str]:
    """Where the published numbers stand and what they are of."""
    where = f"{paper.title}{f' (arXiv {paper.arxiv})' if paper.arxiv else ''}, {table.source}"
    count = f"{table.n_generated:,} samples" if table.n_generated else "sample count not known"
    usual = {"": "", "training set": " against the training set"}
    against = usual.get(table.reference, f"; reference: {table.reference}")
    code = f", by {table.fid_code}" if table.fid_code else ""
    best = f"; the best of {table.minimum_of} runs" if table.minimum_of else ""
    notes = [f"Published: {_printed_on(cells)}; {where}; {CONFIDENCE[table.confidence]}; {count}{against}{code}{best}."]
    for level in dict.fromkeys(row.confidence for row in table.rows if row.confidence not in ("", table.confidence)):
        rows = ", ".join(row.label for row in table.rows if row.confidence == level)
        notes.append(f"{CONFIDENCE[level].capitalize()}: {rows}.")
    return notes


def _protocol(plan: Plan, datasets: list[str]) -> str:
    """What ours are of."""
    parts = [_protocol_of(name, plan.study.datasets[name]) for name in datasets if name in plan.study.datasets]
    return f"Ours: study {plan.study.study}, mean ± half the 95 % interval; {'; '.join(parts)}."


def _protocol_of(name: str, section: DatasetStudy) -> str:
    seeds, samples = len(section.train_seeds), f"{section.blocks} × {section.block_size:,} samples"
    training = f"trained for {section.train.steps:,} steps of {section.train.batch}"
    return f"{name}: {seeds} training seed{'s' * (seeds > 1)}, {training}, {samples}"


def _warnings(filled: Filled) -> list[str]:
    """What the marks on our numbers mean."""
    return [f"{MARK} {text}." for text in sorted({cell.ours.warning for cell in filled.ours} - {""})]


def _verdict_notes(filled: Filled) -> list[str]:
    """What the verdicts mean, and why some cells have none."""
    notes = []
    judged = {cell.metric for line in filled.cells for cell in line if cell.verdict}
    if judged:
        allowed = [f"{TOLERANCES[metric]} of {label_of(metric)}" for metric in sorted(judged & TOLERANCES.keys())]
        within = f" or the two differ by at most {' and '.join(allowed)}, whichever is larger" if allowed else ""
        notes.append(
            f"agrees: the published value lies in our 95 % interval{within}; better, worse: it does not, and ours is "
            "the better or the worse one. Ours are models that this study trained, not the paper's."
        )
    if filled.table.minimum_of and judged:
        notes.append("As the paper prints the best of its runs, the verdict takes our least block, printed as such.")
    return notes + _obstacle_notes(filled)


def _obstacle_notes(filled: Filled) -> list[str]:
    """One note for all reasons that the same rows share."""
    rows_of: dict[str, list[str]] = {}
    for cell in filled.ours:
        for reason in cell.obstacles:
            rows_of.setdefault(reason, []).append(cell.row)
    reasons_of: dict[tuple[str, ...], list[str]] = {}
    for reason, rows in rows_of.items():
        reasons_of.setdefault(tuple(dict.fromkeys(rows)), []).append(reason)
    everywhere = tuple(dict.fromkeys(cell.row for cell in filled.ours))
    return [
        f"No verdict{'' if rows == everywhere else ' on ' + ', '.join(rows)}: {'; '.join(reasons)}."
        for rows, reasons in reasons_of.items()
    ]


def _remarks(paper: Paper, table: Table) -> list[str]:
    rows = [f"{row.label}: {row.note}." for row in table.rows if row.note]
    return [*dict.fromkeys(text for text in (table.note, paper.note) if text), *rows]
