"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from evaluation.leaderboard import csv_text
from evaluation.papers import Table
from evaluation.tables.fill import Cell, Filled
from evaluation.tables.sheet import Block, Sheet

CSV_COLUMNS = [
    *("row", "column", "dataset", "metric", "nfe", "published", "confidence", "entrant"),
    *("status", "mean", "low", "high", "minimum", "n_values", "interval_over", "verdict", "no_verdict_because"),
]


def csv(filled: Filled) -> str:
    """One row a cell. On an analogue the published cells come first, then ours, which share no row with them."""
    cells = [cell for line in [*filled.cells, *(filled.analogue or [])] for cell in line]
    frame = pd.DataFrame([_record(filled.table, cell) for cell in cells], columns=CSV_COLUMNS)
    return csv_text(frame.astype({"nfe": "Int64", "n_values": "Int64"}))


def _record(table: Table, cell: Cell) -> dict:
    record = {"row": cell.row, "column": cell.column, "dataset": cell.dataset, "metric": cell.metric, "nfe": cell.nfe}
    if cell.added:
        record["confidence"] = "not in the paper"
    if cell.published is not None:
        record |= {"published": str(cell.published), "confidence": cell.confidence}
    record |= {"entrant": cell.entrant, "verdict": cell.verdict, "no_verdict_because": "; ".join(cell.obstacles)}
    if cell.ours is None:
        return record | {"status": "not run" if cell.wanted else ""}
    summary = cell.ours.summary
    record |= {"status": cell.ours.status, "mean": summary.mean, "low": summary.low, "high": summary.high}
    record |= {"minimum": cell.ours.smallest if table.minimum_of else math.nan, "interval_over": summary.interval_over}
    return record | {"n_values": summary.count}


def markdown(sheet: Sheet) -> str:
    """A page with a table a block and the notes below."""
    parts = [f"# {sheet.title}", ""]
    for block in sheet.blocks:
        parts += [f"**{block.heading}**", ""] * bool(block.heading)
        parts += [_md_line(block.header), "|---" + "|---:" * (len(block.header) - 1) + "|"]
        parts += [*map(_md_line, block.lines), ""]
    parts += [f"- {_md(note)}" for note in sheet.notes]
    return "\n".join(parts) + "\n"


def _md_line(cells: list[str]) -> str:
    return "| " + " | ".join(map(_md, cells)) + " |"


def _md(text: str) -> str:
    for character in "\\|*_<":
        text = text.replace(character, f"\\{character}")
    return text


def latex(sheet: Sheet) -> str:
    """A `table` environment that needs the package booktabs alone; plain ASCII, so that any engine takes it."""
    width = max(len(block.header) for block in sheet.blocks)
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{escape(sheet.title)}.}}",
        f"  \\label{{tab:{sheet.name.replace('_', '-')}}}",
        "  \\small" if width <= 6 else "  \\scriptsize\\setlength{\\tabcolsep}{3pt}",
        f"  \\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        "    \\toprule",
        *(f"    {line}" for line in _tex_blocks(sheet.blocks, width)),
        "    \\bottomrule",
        "  \\end{tabular}",
        "",
        "  \\medskip",
        "  \\begin{minipage}{\\linewidth}\\footnotesize",
        *(f"    {escape(note)}\\par" for note in sheet.notes),
        "  \\end{minipage}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _tex_blocks(blocks: list[Block], width: int) -> Iterator[str]:
    for number, block in enumerate(blocks):
        if number:
            yield "\\midrule"
        if block.heading:
            yield f"\\multicolumn{{{width}}}{{l}}{{\\emph{{{escape(block.heading)}}}}} \\\\"
        yield _tex_line(block.header, width)
        yield "\\midrule"
        for cells in block.lines:
            yield _tex_line(cells, width)


def _tex_line(cells: list[str], width: int) -> str:
    return " & ".join([escape(cell) for cell in cells] + [""] * (width - len(cells))) + " \\\\"


SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": "$\\pm$",
    "×": "$\\times$",
    "→": "$\\to$",
    "∞": "$\\infty$",
    "α": "$\\alpha$",
    "γ": "$\\gamma$",
    "θ": "$\\theta$",
    "φ": "$\\varphi$",
    "ρ": "$\\rho$",
    "₂": "$_2$",
    "†": "\\dag{}",
    "‡": "\\ddag{}",
    "–": "--",
    "’": "'",
    "§": "\\S",
    "é": "\\'e",
    "[": "{[}",  # a bracket after \\ would be its argument
}


def escape(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(SPECIAL.get(character, character) for character in text)
