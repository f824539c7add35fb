"""Colours, marks and dashes of the curves: those of the figures, in the words of Plotly."""

from typing import Any

import pandas as pd

from evaluation.figures import palette
from fewstep.plan import NONE

SYMBOLS = {  # of matplotlib's markers
    **{"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross"},
    **{"X": "x", "<": "triangle-left", ">": "triangle-right", "p": "pentagon", "h": "hexagon", "*": "star"},
    **{"8": "octagon", "d": "diamond-tall"},
}


def of(board: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """{"colour": by solver and accelerator, "symbol", "dash" and "hollow": by solver}."""
    entrants = board[board["kind"] == "entrant"]
    solvers = sorted(set(entrants["solver"]))
    methods = {*solvers, *entrants["accelerator"]} - {NONE, ""}
    marks = {solver: palette.marks(solver) for solver in solvers}
    return {
        "colour": {method: palette.colour(method) for method in sorted(methods)},
        "symbol": {solver: SYMBOLS.get(mark, "circle") for solver, (mark, _) in marks.items()},
        "dash": {solver: ",".join(f"{2 * n:g}px" for n in dash) or "solid" for solver, (_, dash) in marks.items()},
        "hollow": {solver: palette.hollow(solver) for solver in solvers},
    }
