"""The papers' tables as the page shows them, read from the Markdown that `evaluation.tables` writes."""

import csv
import re
from pathlib import Path
from typing import Any


def sections(results: Path) -> list[dict[str, Any]]:
    """[{title, tables}] of what `tables/index.csv` lists with a file: published tables, then analogues."""
    index = results / "tables" / "index.csv"
    if not index.exists():
        return []
    with index.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("file")]
    parts: dict[str, list[dict]] = {"As published": [], "Analogues on small datasets": []}
    published, analogues = parts.values()
    for row in rows:
        path = results / "tables" / f"{row['file'].removesuffix('.md')}.md"
        if path.exists():
            (published if row.get("kind", "published") == "published" else analogues).append(_table(path, row, results))
    return [{"title": title, "tables": tables} for title, tables in parts.items() if tables]


def _table(path: Path, row: dict[str, str], results: Path) -> dict[str, Any]:
    verdicts = [f"{row[verdict]} {verdict}" for verdict in ("agrees", "better", "worse") if int(row.get(verdict) or 0)]
    files = [path.with_suffix(suffix) for suffix in (".md", ".csv", ".tex")]
    return read(path.read_text(encoding="utf-8")) | {
        "ours": row.get("ours", ""),
        "printed": row.get("printed", ""),
        "verdicts": ", ".join(verdicts),
        "files": [file.relative_to(results).as_posix() for file in files if file.exists()],
    }


def read(text: str) -> dict[str, Any]:
    """{title, blocks: [{heading, header, lines}], notes} of a page of pipe tables; an unknown line is a note."""
    page: dict[str, Any] = {"title": "", "blocks": [], "notes": []}
    heading, before = "", ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("# "):
            page["title"] = _plain(line[2:])
        elif line.startswith("**") and line.endswith("**"):
            heading = _plain(line[2:-2])
        elif not line.startswith("|"):
            page["notes"].append(_plain(line.removeprefix("- ")))
        elif not before.startswith("|"):
            page["blocks"].append({"heading": heading, "header": _cells(line), "lines": []})
            heading = ""
        elif not line.startswith("|---"):
            page["blocks"][-1]["lines"].append(_cells(line))
        before = line
    return page


def _cells(line: str) -> list[str]:
    return [_plain(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _plain(text: str) -> str:
    """The text without the backslashes that keep Markdown from reading it."""
    return re.sub(r"\\(.)", r"\1", text)
