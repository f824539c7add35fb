"""The leaderboard of one dataset as the template shows it: columns, filters, and a row of cells a point."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.figures import middle_nfe
from evaluation.leaderboard import GAPS, HELPERS, beside_the_primary, human, plus_minus
from evaluation.site import links
from evaluation.site.points import OVER

COSTS = {
    "curvature": "Curvature",
    "cfm_loss": "Flow-matching loss",
    "gflop_per_sample": "GFLOP",
    "seconds_per_sample": "ms / sample",
    "helper_gflop_per_sample": "Helper GFLOP",
    "helper_seconds_per_sample": "Helper ms / sample",
    "fit_seconds": "Fit s",
    "solver_fit_calls": "Solver fit calls",
}
SCALE = {"seconds_per_sample": 1000, "helper_seconds_per_sample": 1000}  # to the unit of the column's title
FILTERS = ("nfe", "baseline", "accelerator", "solver", "status")
KEPT = ("entrant", "label", "baseline", "accelerator", "solver", "nfe", "status", "reason", "decided")
SPARE = {  # columns that a reader asks for
    *("Solver fit calls", "n", "Curvature", "Flow-matching loss"),
    *("Helper GFLOP", "Helper ms / sample"),
}


def table(name: str, rows: pd.DataFrame, seeds: list[int], results: Path) -> dict[str, Any]:
    """The context of a dataset's section: its name, metric, columns, filters and rows."""
    primary = rows["metric"].iloc[0]
    others = [m for m in _metrics(rows) if m != primary]
    # Helpers, the networks beside a model's, are named only where some method has one.
    costs = {k: v for k, v in COSTS.items() if k in rows and (rows[k] > 0 if k in HELPERS else rows[k].notna()).any()}
    gaps = [gap for gap in GAPS if gap in rows and rows[gap].notna().any()]
    plain = [*others, *(gap.replace("_", " ") for gap in gaps), *costs.values(), "n"]
    titles = ["Rank", "Entrant", "NFE", primary, *plain, "Worse than the best", "Status", "Files"]
    spare = SPARE | ({"Status"} if set(rows["status"]) == {"ok"} else set())
    texts = {"Entrant", "Worse than the best", "Status", "Files"}
    return {
        "name": name,
        "metric": primary,
        "over": " and ".join(OVER.get(o, o) for o in sorted(set(rows["interval_over"]) - {"none", ""})),
        "seeds": ", ".join(map(str, seeds)),
        "n_values": int(rows["n_values"].max()),
        "columns": [{"title": t, "text": t in texts, "spare": t in spare} for t in titles],
        "rows": [_row(row, others, gaps, list(costs), seeds, results) for row in rows.to_dict("records")],
        "filters": {key: sorted(set(rows[key])) for key in FILTERS},
        "nfe": middle_nfe(rows),
    }


def skipped_metrics(text: Any) -> dict[str, str]:
    """ "fid: weights; kid: too few samples" as {"fid": "weights", "kid": "too few samples"}."""
    parts = (part.partition(":") for part in (text if isinstance(text, str) else "").split(";"))
    return {name.strip(): why.strip() for name, _, why in parts if name.strip()}


def _metrics(rows: pd.DataFrame) -> list[str]:
    """Metrics with a value in some row, then those that were skipped in all."""
    measured = beside_the_primary(rows)
    skipped = {name for text in rows.get("skipped", []) for name in skipped_metrics(text)}
    return [*measured, *sorted(skipped - set(measured))]


def _row(
    row: dict[str, Any], others: list[str], gaps: list[str], costs: list[str], seeds: list[int], results: Path
) -> dict[str, Any]:
    skipped = skipped_metrics(row.get("skipped"))
    main = _cell(row["mean"], plus_minus(row["mean"], row["low"], row["high"]), skipped.get(row["metric"]))
    numbers = [_cell(row.get(f"{m}_mean"), None, skipped.get(m)) for m in others]
    numbers += [_cell(row[gap], f"{row[gap]:+.2%}") for gap in gaps]
    numbers += [_cell(row[c] * SCALE.get(c, 1)) for c in costs] + [_cell(row["n_values"], str(row["n_values"]))]
    low, high = row.get("rank_low"), row.get("rank_high")
    ranged = not pd.isna(row["rank"]) and not pd.isna(low) and not pd.isna(high)
    return {k: row[k] for k in KEPT} | {
        "key": f"{row['dataset']}/{row['entrant']}/{row['nfe']}",
        "rank": "" if pd.isna(row["rank"]) else str(row["rank"]),
        "range": f"({int(low)}–{int(high)})" if ranged and low != high else "",
        "main": main,
        "interval": f"{human(row['low'])} to {human(row['high'])}" if pd.notna(row["low"]) else "",
        "warning": _text(row.get("warning")),
        "numbers": numbers,
        "links": [
            {"href": href, "text": what if len(seeds) == 1 else f"{what} {seed}"}
            for seed in seeds
            for what, href in links.files(row, seed, results).items()
        ],
        "text": " ".join(str(row[k]) for k in ("entrant", "label", "status", "reason")).lower(),
    }


def _cell(value: Any, text: str | None = None, skipped: str | None = None) -> dict[str, str]:
    """What a cell sorts by and shows: the number, why there is none, or nothing."""
    if value is None or pd.isna(value) or not math.isfinite(value):
        return {"sort": "", "text": "" if skipped is None else f"skipped ({skipped})" if skipped else "skipped"}
    return {"sort": f"{value:.12g}", "text": text or human(float(value))}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
