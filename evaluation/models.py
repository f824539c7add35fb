"""The models of a study, without their solvers: size, cost of the fit, and what was measured of each."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation import records as recs
from evaluation.leaderboard import beside_the_primary, csv_text, human, plus_minus
from evaluation.metrics import METRICS
from evaluation.statistics import summarise
from fewstep.files import write_text

KEYS = ["dataset", "model", "baseline", "accelerator", "status", "reason"]
FITS = {  # of the model's own fit, without that of its baseline: column and its title
    "parameters": "Parameters",
    "fit_seconds": "Fit s",
    "fit_steps": "Fit steps",
    "teacher_calls": "Teacher calls",
}
MADE_FROM = "provenance_pretrained"  # the checkpoint behind a model; a column of the table where some model has one
RECORDED = {"parameters": "fit_parameters", "teacher_calls": "fit_teacher_calls"}  # what the records call it


def models(records: pd.DataFrame) -> pd.DataFrame:
    """One row a dataset and model, sorted: status, training seeds, the fit's cost, and each measurement.

    A measurement has `<metric>_mean`, `_low` and `_high`: the mean and its 95 % t-interval over training seeds, empty
    with a single one. `n_train_seeds` counts the seeds that are ok; the status is the worst of all.
    """
    records = recs.typed(records)
    rows = records[records["kind"] == "reference"].sort_values(recs.ORDER, kind="stable", na_position="first")
    found = set(rows["metric"]) - {""}
    metrics = [*(m for m in METRICS if m in found), *sorted(found - set(METRICS))]
    columns = [*KEYS, "n_train_seeds", *FITS, *(f"{m}_{part}" for m in metrics for part in ("mean", "low", "high"))]
    columns += [MADE_FROM] if MADE_FROM in rows and rows[MADE_FROM].ne("").any() else []
    table = [_row(group, metrics) for _, group in rows.groupby(["dataset", "model"], sort=True)]
    return pd.DataFrame(table, columns=columns)


def _row(group: pd.DataFrame, metrics: list[str]) -> dict[str, Any]:
    seeds = group.drop_duplicates("train_seed")
    status = recs.worst(list(seeds["status"]))
    row = {key: seeds[key].iloc[0] for key in KEYS[:4]} | {"status": status}
    row["reason"] = "" if status == "ok" else seeds.loc[seeds["status"] == status, "reason"].iloc[0]
    row["n_train_seeds"] = int((seeds["status"] == "ok").sum())
    row |= {name: _mean(seeds[RECORDED.get(name, name)]) for name in FITS}
    row[MADE_FROM] = seeds[MADE_FROM].iloc[0] if MADE_FROM in seeds else ""
    for metric in metrics:
        summary = summarise(group[group["metric"] == metric])
        row |= {f"{metric}_{part}": getattr(summary, part) for part in ("mean", "low", "high")}
    return row


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if values.notna().any() else math.nan


def write(records: pd.DataFrame, results: Path) -> list[Path]:
    """Write `models.csv` and `models.md` and return their paths."""
    table = models(records)
    paths = [results / "models.csv", results / "models.md"]
    write_text(paths[0], csv_text(table))
    write_text(paths[1], markdown(table))
    return paths


def markdown(table: pd.DataFrame) -> str:
    """A table a dataset, without the columns that no model of it has a value in; the units; what is not ok."""
    parts = ["# Models\n", "Mean ± half the 95 % interval over training seeds, where there are several."]
    for dataset, rows in table.groupby("dataset", sort=True):
        metrics = beside_the_primary(rows)
        fits = [name for name in FITS if rows[name].notna().any()]
        titles = ["Model", "Training seeds", *(FITS[name] for name in fits)]
        titles += [METRICS[m].label if m in METRICS else m for m in metrics]
        parts.append(f"\n## {dataset}\n\n| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}")
        for row in rows.to_dict("records"):
            cells = [row["model"], str(row["n_train_seeds"]), *(_whole(row[name]) for name in fits)]
            cells += [_measured(*(row[f"{m}_{part}"] for part in ("mean", "low", "high"))) for m in metrics]
            parts.append(f"| {' | '.join(cells)} |")
    measured = [m for m in METRICS if f"{m}_mean" in table and table[f"{m}_mean"].notna().any()]
    parts += ["\n## Units\n"] if measured else []
    parts += [f"- {METRICS[m].label}: {METRICS[m].unit}" for m in measured]
    if MADE_FROM in table:
        parts.append("\n## Pretrained\n\nFrom weights of others, whose training cost is not known here.\n")
        rows = table[table[MADE_FROM] != ""].to_dict("records")
        parts += [f"- {row['dataset']}, {row['model']}: {row[MADE_FROM]}" for row in rows]
    bad = table[table["status"] != "ok"]
    parts += ["\n## Not ok\n"] if len(bad) else []
    parts += [f"- {r.dataset}, {r.model}: {r.status} ({r.reason})" for r in bad.itertuples()]
    return "\n".join(parts) + "\n"


def _measured(mean: float, low: float, high: float) -> str:
    return plus_minus(mean, low, high) if math.isfinite(low) else _whole(mean)


def _whole(value: float) -> str:
    """A count with all its digits, a duration with three."""
    return f"{value:,.0f}" if math.isfinite(value) and value == round(value) else human(value)
