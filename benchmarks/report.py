"""How a benchmark ends: a table, a CSV where one is wanted, and an exit code that tells whether its targets are met."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

Row = dict[str, Any]


def finish(rows: list[Row], header: str, line: Callable[[Row], str], misses: list[str], out: Path | None) -> NoReturn:
    """Print the rows below their header, write them to `out`, name the targets that were missed, and exit."""
    click.echo(header)
    for row in rows:
        click.echo(line(row))
    if out:
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    for text in misses:
        click.echo(f"missed: {text}", err=True)
    sys.exit(1 if misses else 0)
