"""Which of many solvers a figure emphasises: a plain one for reference, and those that are best at some NFE."""

import pandas as pd

from evaluation.leaderboard import rounded
from fewstep import registry

MOST = 8  # lines that an eye still tells apart in one panel


def reference(solvers: list[str]) -> str:
    """The plain solver that others are seen against: declared first order, with the fewest parameters.

    The first in the alphabet of those; of all solvers where none is declared so, as in results of unknown methods.
    """
    known = registry.of_kind("solver")
    plain = {s: len(known[s].card.params) for s in solvers if s in known and known[s].order == 1}
    return min(plain or dict.fromkeys(solvers, 0), key=lambda s: (plain.get(s, 0), s))


def emphasised(rows: pd.DataFrame, most: int = MOST) -> list[str]:
    """Solvers of one model, at most `most`: all, else the reference and enough others to have a best one at each NFE.

    `rows` are leaderboard rows with a mean. Solvers that are best at more NFEs go first. Where many tie, as all that
    begin with the same step do at one call, one of them is enough.
    """
    solvers = sorted(set(rows["solver"]))
    if len(solvers) <= most:
        return solvers
    means = rows["mean"].map(rounded)
    best = rows[means == means.groupby(rows["nfe"]).transform("min")]
    wins = {solver: set(group["nfe"]) for solver, group in best.groupby("solver")}
    kept = [reference(solvers)] if most > 1 else []  # a single line tells more about the best
    seen = set().union(*(wins.get(solver, set()) for solver in kept))
    for solver in sorted(wins, key=lambda s: (-len(wins[s]), s)):
        if len(kept) < most and wins[solver] - seen:
            kept.append(solver)
            seen |= wins[solver]
    return sorted(kept)


def best_first(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Rows of one model at one NFE, best first, what is not ok at the end: all, else the best and the reference.

    Where rows are left out, one of several with the same mean stands for them: at one call they often are the same.
    """
    order = rows["mean"].map(rounded).where(rows["status"] == "ok")
    plain = reference(sorted(rows["solver"]))
    rows = rows.assign(_order=order, _late=rows["solver"] != plain).sort_values(["_order", "_late", "solver"])
    if len(rows) > most:
        rows = rows[~rows["_order"].duplicated() | rows["_order"].isna()]
        best = rows.loc[rows["solver"] != plain, "solver"].head(most - 1)
        rows = rows[rows["solver"].isin([plain, *best])]
    return rows.drop(columns=["_order", "_late"])


def drawable(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that a log scale can show."""
    return rows[(rows["status"] == "ok") & (rows["mean"] > 0)]


def of_panel(rows: pd.DataFrame, by_front: bool = False) -> set[tuple[str, str]]:
    """(model, solver) of the lines to emphasise where several models share a panel, each with its share of the room.

    `by_front`: those with most points on the panel's Pareto front (the column `pareto`) come before others.
    """
    groups = list(rows.groupby("model"))
    share = max(1, MOST // max(1, len(groups)))
    choose = ahead if by_front else emphasised
    return {(model, solver) for model, group in groups for solver in choose(group, share)}


def ahead(rows: pd.DataFrame, most: int = MOST) -> list[str]:
    """Solvers of one model, at most `most`: all, else the reference and those with most points on the Pareto front."""
    solvers = sorted(set(rows["solver"]))
    if len(solvers) <= most:
        return solvers
    points = rows.groupby("solver")["pareto"].sum()
    kept = [reference(solvers)] if most > 1 else []
    best = [s for s in sorted(solvers, key=lambda s: (-points[s], s)) if points[s] and s not in kept]
    return sorted([*kept, *best][:most]) or emphasised(rows, most)
