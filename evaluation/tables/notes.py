"""The notes below a filled table: where the numbers stand, what they are of, and what the marks and verdicts mean."""

from __future__ import annotations

from evaluation.leaderboard import MARK
from evaluation.papers import Paper, Table
from evaluation.papers.names import CONFIDENCE, DATASETS, label_of
from evaluation.tables.counterpart import DEARER
from evaluation.tables.fill import Cell, Filled
from evaluation.tables.verdict import TOLERANCES
from fewstep.config import DatasetStudy
from fewstep.plan import Plan

ADDED = "‡"  # on rows and columns of ours that the paper does not have


def difference(filled: Filled, what: str) -> str:
    """How our numbers on an analogue differ from the paper's."""
    at = filled.table.analogue
    printed = {cell.metric for line in filled.cells for cell in line}
    same = printed == {at.metric_for(metric) for metric in printed}
    other = "other data than published" if same else "other data and another metric than published"
    text = f"An analogue, not a reproduction: ours are {what} on {at.dataset}, {other}."
    return f"{text} Compare the order of the methods, not the numbers." if filled.table.has_values else text


def printed_on(cells: list[list[Cell]]) -> str:
    """`CIFAR-10, FID`, and so on, of what the paper prints."""
    places = list(
        dict.fromkeys((DATASETS[c.dataset], label_of(c.metric)) for line in cells for c in line if not c.added)
    )
    datasets, metrics = (list(dict.fromkeys(names)) for names in zip(*places, strict=True))
    return f"{' / '.join(datasets)}, {' / '.join(metrics)}"


def source(paper: Paper, table: Table, cells: list[list[Cell]]) -> list[str]:
    """Where the published numbers stand and what they are of."""
    where = f"{paper.title}{f' (arXiv {paper.arxiv})' if paper.arxiv else ''}, {table.source}"
    if not table.has_values:
        return [f"Published: {printed_on(cells)}; {where}; {CONFIDENCE[table.confidence]}."]
    count = f"{table.n_generated:,} samples" if table.n_generated else "sample count not known"
    usual = {"": "", "training set": " against the training set"}
    against = usual.get(table.reference, f"; reference: {table.reference}")
    code = f", by {table.fid_code}" if table.fid_code else ""
    best = f"; the best of {table.minimum_of} runs" if table.minimum_of else ""
    notes = [f"Published: {printed_on(cells)}; {where}; {CONFIDENCE[table.confidence]}; {count}{against}{code}{best}."]
    for level in dict.fromkeys(row.confidence for row in table.rows if row.confidence not in ("", table.confidence)):
        rows = ", ".join(row.label for row in table.rows if row.confidence == level)
        notes.append(f"{CONFIDENCE[level].capitalize()}: {rows}.")
    not_found = [row.label for row in table.rows if not row.values and not row.ours]
    return [*notes, *([f"No published value was found of {', '.join(not_found)}."] if not_found else [])]


def protocol(plan: Plan, datasets: list[str]) -> str:
    """What ours are of."""
    parts = [_protocol_of(name, plan.study.datasets[name]) for name in datasets if name in plan.study.datasets]
    return f"Ours: study {plan.study.study}, mean ± half the 95 % interval; {'; '.join(parts)}."


def _protocol_of(name: str, section: DatasetStudy) -> str:
    seeds, samples = len(section.train_seeds), f"{section.blocks} × {section.block_size:,} samples"
    training = f"trained for {section.train.steps:,} steps of {section.train.batch}"
    if section.pretrained:
        training = f"{' and '.join(section.pretrained)} read as published, all others {training}"
    return f"{name}: {seeds} training seed{'s' * (seeds > 1)}, {training}, {samples}"


def added(table: Table) -> list[str]:
    """What the mark on rows and columns means."""
    return [f"{ADDED} not in the paper."] if any(part.ours for part in [*table.rows, *table.columns]) else []


def chosen(table: Table) -> list[str]:
    """How the best of several entrants was found."""
    rows = [row for row in table.rows if row.best_of]
    if not rows:
        return []
    among = ", ".join(dict.fromkeys(pattern for row in rows for pattern in row.entrant))
    text = (
        f"Best training-free: of the study's {among} without an accelerator and without a solver that is fitted, the "
        "one with the best value, named beside it; it is chosen by the same numbers that are shown, which favours it."
    )
    pairs = "; ".join(f"{row.label}: as {row.as_costly_as}" for row in rows if row.as_costly_as)
    costly = (
        f"At equal FLOPs ({pairs}): each at its best NFE of those up to the least in the study that costs no fewer "
        f"FLOPs a sample, all networks counted; that one takes no part where it costs over {DEARER:g} times as many."
    )
    return [text, costly] if pairs else [text]


def warnings(filled: Filled) -> list[str]:
    """What the marks on our numbers mean."""
    return [f"{MARK} {text}." for text in sorted({cell.ours.warning for cell in filled.ours} - {""})]


MODELS = {
    False: "Ours are models that this study trained, not the paper's.",
    True: "Ours are models that this study trained, but for those that are named as published.",
}


def verdict_notes(filled: Filled, published: bool = False) -> list[str]:
    """What the verdicts mean, and why some cells have none; published: some models are read from checkpoints."""
    notes = []
    judged = {cell.metric for line in filled.cells for cell in line if cell.verdict}
    if judged:
        allowed = [f"{TOLERANCES[metric]} of {label_of(metric)}" for metric in sorted(judged & TOLERANCES.keys())]
        within = f" or the two differ by at most {' and '.join(allowed)}, whichever is larger" if allowed else ""
        notes.append(
            f"agrees: the published value lies in our 95 % interval{within}; better, worse: it does not, and ours is "
            f"the better or the worse one. {MODELS[published]}"
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


def remarks(paper: Paper, table: Table) -> list[str]:
    rows = [f"{row.label}: {row.note}." for row in table.rows if row.note]
    return [*dict.fromkeys(text for text in (table.note, paper.note) if text), *rows]
