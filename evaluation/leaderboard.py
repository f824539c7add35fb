"""The leaderboard: one row an entrant and NFE, as CSV and as a short Markdown page."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evaluation import records as recs
from evaluation.extractors import EXTRACTORS
from evaluation.statistics import Summary, Values, decided, summarise
from fewstep.facts import SECOND_BACKEND
from fewstep.files import write_text

KEYS = ["dataset", "nfe", "entrant"]
COLUMNS = [
    *("dataset", "entrant", "label", "kind", "baseline", "accelerator", "solver"),
    *("nfe", "nfe_measured", "status", "reason"),
    *("metric", "mean", "sd", "low", "high", "n_values", "interval_over", "warning"),
    *("rank", "rank_low", "rank_high", "decided", "skipped"),
]
INTEGERS = ["nfe", "rank", "rank_low", "rank_high", "n_values", "n_train_seeds"]
TEXTS = ["dataset", "entrant", "label", "kind", "baseline", "accelerator", "solver", "status", "reason", "metric"]
TEXTS += ["interval_over", "warning", "decided", "skipped"]
# What the networks beside the model's cost, e.g. one that is called once a sample; it is part of GFLOP and seconds.
HELPERS = ("helper_gflop_per_sample", "helper_seconds_per_sample")
MEASURED = (  # of a point, the mean over its training seeds
    *("nfe_measured", "gflop_per_sample", "seconds_per_sample"),
    *HELPERS,
)
COSTS = [
    *("curvature", "cfm_loss", "gflop_per_sample", "seconds_per_sample", *HELPERS, "fit_seconds"),
    *("solver_fit_seconds", "solver_fit_calls", "n_train_seeds"),  # of a solver that learns from the field
]
SOLVER_FIT = {"solver_fit_seconds": "fit_seconds", "solver_fit_calls": "fit_teacher_calls"}
# Relative difference of what the same network gives in a second library: fid_pytorch_gap = fid_pytorch / fid - 1.
GAPS = {
    f"{EXTRACTORS[second].frechet}_gap": (EXTRACTORS[second].frechet, EXTRACTORS[first].frechet)
    for first, second in SECOND_BACKEND.items()
}
MARK = "†"  # on a value with a warning
DIGITS = 6  # significant, in the CSV and for ranks: two entrants that differ by rounding are tied
ROUNDING = 10.0 ** (1 - DIGITS)  # a smaller relative difference is none


def leaderboard(records: pd.DataFrame) -> pd.DataFrame:
    """One row per (dataset, entrant, nfe), sorted by dataset, nfe, mean, entrant.

    The mean, sd and 95 % interval (low, high) are of the dataset's primary metric, lower is better. A row is ok only
    if all its training seeds are; otherwise it carries the worst status with its reason, the mean of the seeds that are
    ok, if any, and no rank. Among the entrants of a dataset and NFE, `rank` orders the means; `rank_low` to `rank_high`
    are the ranks that no decided difference excludes: one more than the entrants that are better, and as many as are
    not worse, each beyond the paired 95 % interval. `decided` says the same of the difference to the best one.
    `warning` says what weakens a value (of a metric beside the primary one with its name), `skipped` names further
    metrics that could not be computed.
    """
    rows = []
    records = recs.typed(records)
    points = records[records["kind"] != "reference"].sort_values(recs.ORDER, kind="stable", na_position="first")
    models = _models(records)
    skipped, warnings = _skipped(points), _warnings(points)
    metrics = sorted(set(points["metric"]) - {""})
    # Rows by position and values in dictionaries: a frame for each of some thousand points takes a minute.
    values = _values(points)
    names = ["status", "reason", "train_seed", "primary", "model", *COLUMNS[:8]]
    names += [*MEASURED, *SOLVER_FIT.values()]
    by_point: dict[tuple, list[dict[str, Any]]] = {}
    # A metric beside the primary one may have been skipped: that is no status of the point.
    own = points[points["metric"].isin([""]) | (points["metric"] == points["primary"])]
    for record in own[[*dict.fromkeys(names)]].drop_duplicates().to_dict("records"):
        by_point.setdefault(tuple(record[k] for k in KEYS), []).append(record)
    for key in sorted(by_point):
        dataset, model = key[0], by_point[key][0]["model"]
        row = _row(by_point[key], values.get(key, {})) | models.get((dataset, model), {})
        row |= {"skipped": skipped.get(key, ""), "warning": warnings.get(key, "")}
        if math.isfinite(row["solver_fit_seconds"]):
            row["fit_seconds"] = row.get("fit_seconds", 0.0) + row["solver_fit_seconds"]
        rows.append(row)
    # A metric that is some dataset's primary has columns of its own only where it is not.
    others = [m for m in metrics if any(f"{m}_mean" in row for row in rows)]
    gaps = [name for name in GAPS if any(name in row for row in rows)]
    names = [*COLUMNS, *(f"{m}_{part}" for m in others for part in ("mean", "sd")), *gaps, *COSTS]
    board = pd.DataFrame(rows, columns=names)
    board = board.assign(_sort=board["mean"].map(rounded).fillna(math.inf))
    board = board.sort_values(["dataset", "nfe", "_sort", "entrant"], kind="stable").reset_index(drop=True)
    board = _ranked(board, values).drop(columns="_sort")
    board[INTEGERS] = board[INTEGERS].astype("Int64")
    board[TEXTS] = board[TEXTS].astype("str")
    floats = [c for c in board.columns if c not in {*INTEGERS, *TEXTS}]
    board[floats] = board[floats].astype("float64")
    return board


def csv_text(frame: pd.DataFrame) -> str:
    """CSV with six significant digits, the same bytes wherever it is written."""
    return frame.to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")


def write(records: pd.DataFrame, results: Path) -> list[Path]:
    """Write `leaderboard.csv` and `leaderboard.md` and return their paths."""
    board = leaderboard(records)
    paths = [results / "leaderboard.csv", results / "leaderboard.md"]
    write_text(paths[0], csv_text(board))
    write_text(paths[1], markdown(board))
    return paths


def markdown(board: pd.DataFrame) -> str:
    """Per dataset a pivot entrant × NFE of mean ± half the 95 % interval, best of a column in bold; the failures."""
    parts = ["# Leaderboard\n"]
    for dataset, rows in board.groupby("dataset", sort=True):
        over = ", ".join(sorted(set(rows["interval_over"]) - {"none"})).replace("_", " ") or "nothing: one value each"
        metric = rows["metric"].iloc[0]
        parts.append(f"## {dataset}\n\n{metric}, lower is better; mean ± half the 95 % interval over {over}.\n")
        nfes = sorted(rows["nfe"].unique())
        best = rows.assign(mean=rows["mean"].fillna(math.inf)).groupby("entrant")["mean"].min()
        cells = {(r.entrant, r.nfe): _cell(r) for r in rows.itertuples()}
        parts.append("| entrant | " + " | ".join(f"NFE {n}" if n else "control" for n in nfes) + " |")
        parts.append("|---|" + "---:|" * len(nfes))
        parts.extend(
            f"| {e} | " + " | ".join(cells.get((e, n), "") for n in nfes) + " |"
            for e in best.sort_values(kind="stable").index
        )
        for warning in sorted(set(rows["warning"]) - {""}):
            parts.append(f"\n{MARK} {warning}")
        parts.append("")
    bad = board[board["status"] != "ok"]
    parts.append("## Not ok\n" if len(bad) else "Every planned point is ok.")
    parts.extend(f"- {r.dataset}, {r.entrant}, NFE {r.nfe}: {r.status} ({r.reason})" for r in bad.itertuples())
    return "\n".join(parts) + "\n"


def human(value: float) -> str:
    """A number for people: three significant digits, no exponent between 0.001 and a million."""
    if value is None or not math.isfinite(value):
        return ""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.2e}" if not -4 <= decimals <= 5 else f"{value:,.{max(0, decimals)}f}"


def plus_minus(mean: float, low: float, high: float) -> str:
    """For example 12.3 ± 0.4: the mean and half the interval, where there is one."""
    half = human((high - low) / 2)
    return f"{human(mean)} ± {half}" if half else human(mean)


def rounded(value: float, digits: int = DIGITS) -> float:
    """The value with so many significant digits; as the CSV shows it."""
    return float(f"{value:.{digits}g}")


def beside_the_primary(rows: pd.DataFrame) -> list[str]:
    """The metrics with columns of their own and a value in some of these rows."""
    return [c.removesuffix("_mean") for c in rows.columns if c.endswith("_mean") and rows[c].notna().any()]


def _cell(row: Any) -> str:
    if row.status != "ok":
        return row.status.replace("_", " ")
    text = plus_minus(row.mean, row.low, row.high) + MARK * bool(row.warning)
    return f"**{text}**" if pd.notna(row.rank) and row.rank == 1 else text


def _values(points: pd.DataFrame) -> dict[tuple, dict[str, Values]]:
    """Values by (dataset, nfe, entrant), then by metric."""
    rows: dict[tuple, dict[str, list[tuple]]] = {}
    scored = points[(points["metric"] != "") & points["value"].notna()]
    columns = [scored[c].tolist() for c in (*KEYS, "metric", "train_seed", "block", "value", "jackknife")]
    for dataset, nfe, entrant, metric, *row in zip(*columns, strict=True):
        rows.setdefault((dataset, nfe, entrant), {}).setdefault(metric, []).append(tuple(row))
    return {key: {m: Values.collect(found) for m, found in of.items()} for key, of in rows.items()}


def _skipped(points: pd.DataFrame) -> dict[tuple, str]:
    """`fid: weights; …` by (dataset, nfe, entrant), of metrics beside the primary one that were skipped.

    The records hold the whole reason.
    """
    rows = points[
        (points["status"] == "skipped") & ~points["metric"].isin([""]) & (points["metric"] != points["primary"])
    ]
    rows = rows[[*KEYS, "metric", "reason"]].drop_duplicates([*KEYS, "metric"])
    texts: dict[tuple, list[str]] = {}
    for *key, metric, reason in rows.itertuples(index=False):
        texts.setdefault(tuple(key), []).append(f"{metric}: {reason.partition(':')[0]}")
    return {key: "; ".join(sorted(found)) for key, found in texts.items()}


def _warnings(points: pd.DataFrame) -> dict[tuple, str]:
    """`singular: …; fid: singular: …` by (dataset, nfe, entrant), the primary metric's first and without its name."""
    rows = points.loc[points["warning"] != "", [*KEYS, "metric", "primary", "warning"]].drop_duplicates()
    texts: dict[tuple, list[tuple[bool, str]]] = {}
    for *key, metric, primary, warning in rows.itertuples(index=False):
        own = metric == primary
        texts.setdefault(tuple(key), []).append((not own, warning if own else f"{metric}: {warning}"))
    return {key: "; ".join(text for _, text in sorted(set(found))) for key, found in texts.items()}


def _row(group: list[dict[str, Any]], values: dict[str, Values]) -> dict[str, Any]:
    """The row of a point, from one record a training seed and its values by metric."""
    first = group[0]
    row = {k: first[k] for k in ("dataset", "entrant", "label", "kind", "baseline", "accelerator", "solver", "nfe")}
    row |= {"label": first["label"] or first["entrant"], "metric": first["primary"]}
    row |= dict(zip(("status", "reason"), _status(group), strict=True))
    for metric, found in values.items():
        if metric != first["primary"]:
            summary = summarise(found)
            row |= {f"{metric}_mean": summary.mean, f"{metric}_sd": summary.sd}
    row |= _primary(summarise(values.get(first["primary"], Values())))
    for name, pair in GAPS.items():
        if all(metric in values for metric in pair):
            second, one = (summarise(values[metric]).mean for metric in pair)
            row[name] = second / one - 1 if one else math.nan
    for name, cost in [*zip(MEASURED, MEASURED, strict=True), *SOLVER_FIT.items()]:
        known = [float(record[cost]) for record in group if pd.notna(record[cost])]
        row[name] = sum(known) / len(known) if known else math.nan
    row["n_train_seeds"] = sum(record["status"] == "ok" for record in group)
    return row


def _primary(summary: Summary) -> dict[str, Any]:
    named = {k: getattr(summary, k) for k in ("mean", "sd", "low", "high", "interval_over")}
    return named | {"n_values": summary.count}


def _status(group: list[dict[str, Any]]) -> tuple[str, str]:
    """The worst status over the seeds, and its reason, which names the seed if the others fare differently."""
    status = recs.worst([record["status"] for record in group])
    if status == "ok":
        return "ok", ""
    bad = next(record for record in group if record["status"] == status)
    alike = all((record["status"], record["reason"]) == (status, bad["reason"]) for record in group)
    return status, bad["reason"] if alike else f"train seed {bad['train_seed']}: {bad['reason']}"


def _models(records: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """Curvature, flow-matching loss and the seconds of all fits, by (dataset, model).

    An accelerator's seconds come on top of its baseline's, unless it trains from scratch.
    """
    reference = records[records["kind"] == "reference"].sort_values(recs.ORDER, kind="stable", na_position="first")
    fits = reference.drop_duplicates(["dataset", "model", "train_seed"])
    seconds = fits.groupby(["dataset", "model"])["fit_seconds"].mean()
    facts = {}
    for (dataset, model), group in reference.groupby(["dataset", "model"], sort=True):
        baseline = group["baseline"].iloc[0]
        needed = {model} if (group["fit_from_scratch"] == 1).any() else {baseline, model}
        total = sum(seconds.get((dataset, name), math.nan) for name in sorted(needed))
        measured = {name: summarise(group[group["metric"] == name]).mean for name in ("curvature", "cfm_loss")}
        facts[dataset, model] = measured | {"fit_seconds": total}
    return facts


def _ranked(board: pd.DataFrame, values: dict[tuple, dict[str, Values]]) -> pd.DataFrame:
    """Add rank (ties share the better one), the ranks that are not excluded, and `decided` within each dataset and NFE.

    Controls take no part.
    """
    empty = pd.array([None] * len(board), dtype="Int64")
    board = board.assign(rank=empty, rank_low=empty, rank_high=empty, decided="")
    entered = board[(board["kind"] != "control") & (board["status"] == "ok")]
    for (dataset, nfe), group in entered.groupby(["dataset", "nfe"]):
        board.loc[group.index, "rank"] = group["_sort"].rank(method="min").astype("Int64")
        names = group[["entrant", "metric"]].itertuples(index=False)
        differ = decided([values[dataset, nfe, name][metric] for name, metric in names], ROUNDING)
        if not (group["interval_over"] == "none").any():
            means = group["_sort"].to_numpy()
            better = differ & (means[None, :] < means[:, None])  # [i, j]: j is better than i
            board.loc[group.index, "rank_low"] = 1 + better.sum(axis=1)
            board.loc[group.index, "rank_high"] = len(group) - better.sum(axis=0)
            board.loc[group.index[1:], "decided"] = np.where(differ[0, 1:], "yes", "no")
        board.loc[group.index[0], "decided"] = "best"
    return board
