"""The papers' tables with our numbers beside the published ones: `results/tables/<paper>_<table>.{csv,md,tex}`.

A table is written where the study has at least one of its numbers (a control that we add is none): as printed, on the
same dataset and metric, or on the small dataset that it names as its analogue. The index lists all others too.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from evaluation.leaderboard import csv_text
from evaluation.papers import Paper, papers
from evaluation.tables import text
from evaluation.tables.fill import Filled, as_printed, on_analogue
from evaluation.tables.ours import Measured
from evaluation.tables.sheet import sheet
from evaluation.tables.verdict import AGREES, BETTER, WORSE
from fewstep.files import write_text
from fewstep.plan import Plan

FORMATS = (".csv", ".md", ".tex")
INDEX = [
    *("table", "file", "paper", "title", "source", "kind", "printed", "with_counterpart", "ours"),
    *(AGREES, BETTER, WORSE),
]


def fill(records: pd.DataFrame, plan: Plan, known: dict[str, Paper] | None = None) -> list[Filled]:
    """All tables, those with none of our numbers too; the analogues right behind the tables that they stand for."""
    measured = Measured(records)
    filled = []
    for paper_name, paper in (papers() if known is None else known).items():
        for table_name, table in paper.tables.items():
            key = f"{paper_name}_{table_name}"
            filled.append(as_printed(key, paper, table, measured, plan))
            if analogue := on_analogue(key, paper, table, measured):
                filled.append(analogue)
    return filled


def write(records: pd.DataFrame, plan: Plan, results: Path, known: dict[str, Paper] | None = None) -> list[Path]:
    """Write `tables/` below `results` and return its files; what an earlier run left there is removed."""
    folder = results / "tables"
    filled = fill(records, plan, known)
    texts = {}
    for table in filled:
        if table.counts:
            readable = sheet(table, plan)
            texts[f"{table.name}.csv"] = text.csv(table)
            texts[f"{table.name}.md"] = text.markdown(readable)
            texts[f"{table.name}.tex"] = text.latex(readable)
    index = _index(filled)
    texts |= {"index.csv": csv_text(index), "index.md": _index_page(index, plan)}
    for name, content in texts.items():
        write_text(folder / name, content)
    for file in folder.iterdir():
        if file.suffix in FORMATS and file.name not in texts:
            file.unlink()
    return [folder / name for name in sorted(texts)]


def _index(filled: list[Filled]) -> pd.DataFrame:
    """A row a table and a row an analogue."""
    rows = []
    for table in filled:
        cells = [cell for line in table.cells for cell in line]
        verdicts = [cell.verdict for cell in cells]
        named = {row.label for row in table.table.rows if row.entrant}
        rows.append(
            {
                "table": table.key,
                "file": table.name if table.counts else "",
                "paper": table.paper.label,
                "title": table.table.title,
                "source": table.table.source,
                "kind": "published" if table.analogue is None else f"analogue on {table.table.analogue.dataset}",
                "printed": sum(cell.published is not None for cell in cells),
                "with_counterpart": sum(cell.published is not None and cell.row in named for cell in cells),
                "ours": len(table.ours),
                **{verdict: verdicts.count(verdict) for verdict in (AGREES, BETTER, WORSE)},
            }
        )
    return pd.DataFrame(rows, columns=INDEX)


def _index_page(index: pd.DataFrame, plan: Plan) -> str:
    """Which tables have numbers of ours, and which have none."""
    written, rest = index[index["file"] != ""], index[(index["file"] == "") & (index["kind"] == "published")]
    rest = rest[~rest["table"].isin(written["table"])]
    parts = [f"# Published tables beside study {plan.study.study}", ""]
    parts += ["Each is there as Markdown, as CSV (one row a cell) and as LaTeX (booktabs).", ""]
    for kind, rows in written.groupby(written["kind"] != "published"):
        parts += ["## Analogues", "", ANALOGUES, ""] if kind else ["## As published", "", AS_PUBLISHED, ""]
        parts += ["| table | source | published values | ours | verdicts |", "|---|---|---:|---:|---|"]
        parts += [_index_line(row) for row in rows.itertuples()] + [""]
    if len(rest):
        parts += ["## Without a number of ours", "", f"This study runs nothing of these {len(rest)} tables.", ""]
        parts += [f"- {paper}: {'; '.join(group['title'])}" for paper, group in rest.groupby("paper", sort=False)]
        parts.append("")
    return "\n".join(parts)


AS_PUBLISHED = (
    "Same dataset and metric. A verdict (agrees, better, worse) stands only where sample count, reference set, "
    "features and the sampler's settings agree too; each table's notes say what is missing."
)
ANALOGUES = (
    "The same methods on a small dataset. Published and ours stand in separate blocks and are never set against each "
    "other: the data and the metric differ."
)


def _index_line(row) -> str:
    verdicts = [f"{getattr(row, name)} {name}" for name in (AGREES, BETTER, WORSE) if getattr(row, name)]
    link = f"[{row.paper}: {row.title}]({row.file}.md)"
    title = link + row.kind.removeprefix("published").replace("analogue", ", analogue")
    return f"| {title} | {row.source} | {row.printed or 'not found'} | {row.ours} | {', '.join(verdicts) or '–'} |"
