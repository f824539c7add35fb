"""Every point with its metrics, blocks, costs and provenance, for the panel and the curves: one JSON in the page."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.figures import emphasis
from evaluation.figures.quality_vs_total_cost import TOTAL, with_total
from evaluation.leaderboard import beside_the_primary, human, plus_minus, rounded
from evaluation.records import model_name
from evaluation.site import links
from evaluation.statistics import Values, summarise

TEXTS = ("entrant", "label", "kind", "baseline", "accelerator", "solver", "status", "reason", "decided")
MAYBE = ("warning", "skipped", "rank", "rank_low", "rank_high")  # left out where a row has none
COSTS = {  # what may stand on a curve's x axis, or beside a number
    "nfe": "NFE",
    "seconds_per_sample": "seconds per sample",
    "gflop_per_sample": "GFLOP per sample",
    TOTAL.column: TOTAL.label,
    "fit_seconds": "seconds of all fits",
    "solver_fit_calls": "network calls of the solver's fit",
    "curvature": "curvature of the model's paths",
    "cfm_loss": "flow-matching loss of the model",
}
OVER = {"train_seeds": "training seeds", "blocks": "blocks of latents", "jackknife": "parts of blocks left out in turn"}
FACTS = ("n_generated", "n_reference", "extractor", "extractor_sha256", "reference_sha256")  # of a metric's first value
PROVENANCE = "provenance_"


def data(board: pd.DataFrame, records: pd.DataFrame, results: Path) -> dict[str, Any]:
    """What the scripts read: points by "dataset/entrant/nfe", cost names, metrics by dataset, commands."""
    board = with_total(board, records)
    scored = records[records["kind"] != "reference"]
    provenance, by_seed = _provenance(scored)
    values = _values(scored)
    seen: dict[tuple, dict[str, str]] = {}
    points = {}
    for row in board.to_dict("records"):
        key = (row["dataset"], row["entrant"], row["nfe"])
        runs = {}
        for seed, origin in by_seed.get(key, {}).items():
            place = (*key[:2], seed)
            if place not in seen:  # an entrant's NFEs share its files
                seen[place] = links.files(row, seed, results)
            runs[seed] = {"provenance": origin} | seen[place]
        points["/".join(map(str, key))] = _point(row, values.get(key, {})) | {"runs": runs}
    return {
        "points": points,
        "provenance": provenance,
        "costs": {k: name for k, name in COSTS.items() if board[k].notna().any()},
        "datasets": {name: _dataset(rows) for name, rows in board.groupby("dataset", sort=True)},
        "commands": links.commands(results),
    }


def _dataset(rows: pd.DataFrame) -> dict[str, Any]:
    """Metrics, the primary one first; models, the one with the most entrants first; the lines to show at first."""
    entrants = rows[rows["kind"] == "entrant"]
    bases = entrants.groupby("baseline")["entrant"].nunique().sort_values(ascending=False, kind="stable").index
    shown = {
        entrant
        for _, group in emphasis.drawable(entrants).groupby(["baseline", "accelerator"])
        for entrant in group.loc[group["solver"].isin(emphasis.emphasised(group)), "entrant"]
    }
    metrics = [rows["metric"].iloc[0], *beside_the_primary(rows)]
    return {"metrics": metrics, "baselines": list(bases), "shown": sorted(shown)}


def _point(row: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A leaderboard row with the values behind it; what is missing is left out, numbers have six digits."""
    point = {"dataset": row["dataset"], "nfe": int(row["nfe"])} | {k: row[k] for k in TEXTS}
    point["model"] = "control" if row["kind"] == "control" else model_name(row["baseline"], row["accelerator"])
    point |= {k: _plain(row[k]) for k in MAYBE if k in row and not pd.isna(row[k]) and row[k] != ""}
    point["metrics"] = {name: _metric(name, row, found) for name, found in values.items()}
    costs = {k: row[k] for k in (*COSTS, "nfe_measured") if pd.notna(row[k])}
    point["costs"] = {k: [rounded(float(v)), _cost(k, row)] for k, v in costs.items() if math.isfinite(v)}
    return point


def _metric(name: str, row: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Mean and interval, the leaderboard's own for the primary metric, and the values [seed, block, value]."""
    values = Values.collect(found["rows"])
    if name == row["metric"]:
        mean, low, high, over = (row[k] for k in ("mean", "low", "high", "interval_over"))
    else:
        summary = summarise(values)
        mean, low, high, over = summary.mean, summary.low, summary.high, summary.interval_over
    metric = {"mean": rounded(mean), "text": plus_minus(mean, low, high)} if pd.notna(mean) else {}
    if pd.notna(low):
        metric |= {"low": rounded(low), "high": rounded(high), "over": OVER.get(over, over)}
    return metric | {"values": [[*key, rounded(value)] for key, value in values.of.items()]} | found["facts"]


def _values(scored: pd.DataFrame) -> dict[tuple, dict[str, dict]]:
    """By point and metric: rows (train_seed, block, value, jackknife), and facts such as the number of samples."""
    values: dict[tuple, dict[str, dict]] = {}
    known = scored[(scored["metric"] != "") & scored["value"].notna()]
    names = ("dataset", "entrant", "nfe", "metric", "train_seed", "block", "value", "jackknife")
    facts = [known[c].astype(object).where(known[c].notna() & (known[c] != ""), None).tolist() for c in FACTS]
    columns = [known[c].tolist() for c in names]
    for d, e, n, metric, *row, fact in zip(*columns, zip(*facts, strict=True), strict=True):
        told = {k: _plain(v) for k, v in zip(FACTS, fact, strict=True) if v is not None}
        values.setdefault((d, e, n), {}).setdefault(metric, {"rows": [], "facts": told})["rows"].append(row)
    return values


def _provenance(scored: pd.DataFrame) -> tuple[list[dict[str, str]], dict[tuple, dict[int, int]]]:
    """The different provenances, and by point and training seed the index of its own."""
    columns = [c for c in scored.columns if c.startswith(PROVENANCE)]
    distinct: dict[tuple, int] = {}
    by_point: dict[tuple, dict[int, int]] = {}
    rows = scored[["dataset", "entrant", "nfe", "train_seed", *columns]].drop_duplicates()
    for d, e, n, seed, *texts in rows.itertuples(index=False):
        by_point.setdefault((d, e, n), {})[int(seed)] = distinct.setdefault(tuple(texts), len(distinct))
    names = [c.removeprefix(PROVENANCE).replace("_", " ") for c in columns]
    return [{k: v for k, v in zip(names, texts, strict=True) if v} for texts in distinct], by_point


def _cost(name: str, row: dict[str, Any]) -> str:
    """A cost for people; of GFLOP and seconds also the part of the networks beside the model's, where it has some."""
    part = row.get(f"helper_{name}")
    beside = f", of it {_short(part)} beside the model's network" if pd.notna(part) and part > 0 else ""
    return _short(float(row[name])) + beside


def _short(value: float) -> str:
    """A number for people; seconds per sample are small, and easier to compare without an exponent."""
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e-3 else human(value)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
