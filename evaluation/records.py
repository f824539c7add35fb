"""Tidy records: one row a metric value, one row a failure, every planned point present."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from fewstep.files import atomic

STATUSES = ("ok", "skipped", "out_of_memory", "timeout", "diverged", "failed")  # from best to worst

# Text is "" and a number null where it does not apply; provenance keys follow as text columns "provenance_<key>".
COLUMNS = {
    "dataset": "str",
    "family": "str",  # image or vector
    "shape": "str",  # 1x8x8
    "kind": "str",  # entrant, control, or reference: a measurement of a model that needs no solver
    "baseline": "str",
    "accelerator": "str",
    "model": "str",  # baseline, baseline+accelerator, or control
    "solver": "str",
    "entrant": "str",
    "label": "str",
    "train_seed": "Int64",
    "nfe": "Int64",  # asked for; null for a reference
    "status": "str",
    "reason": "str",
    "primary": "str",
    "metric": "str",
    "block": "Int64",  # seed block, -1: over everything
    "value": "float64",
    "stderr": "float64",
    "n_generated": "Int64",
    "n_reference": "Int64",
    "jackknife": "list",  # the value without each of the block's parts, where that was computed
    "warning": "str",  # what weakens this value, e.g. a singular covariance
    "extractor": "str",  # of the features that the metric is on
    "extractor_sha256": "str",  # of all that makes its features: weights, resizing, normalisation, layer
    "reference_sha256": "str",  # of the reference statistics
    "nfe_measured": "float64",
    "gflop_per_sample": "float64",
    "seconds_per_sample": "float64",
    "helper_gflop_per_sample": "float64",  # of these, what the method's networks beside the model's cost
    "helper_seconds_per_sample": "float64",
    "n_samples": "Int64",
    "n_steps": "Int64",
    "fit_seconds": "float64",  # of this model's own fit, without its baseline's training; of a point: its solver's fit
    "fit_steps": "Int64",
    "fit_teacher_calls": "Int64",
    "fit_parameters": "Int64",
    "fit_from_scratch": "Int64",  # 1: without its baseline's weights
}
MEASURED = (  # of a point
    *("nfe_measured", "gflop_per_sample", "seconds_per_sample", "n_samples"),
    *("helper_gflop_per_sample", "helper_seconds_per_sample"),
    *("fit_seconds", "fit_teacher_calls"),  # of its solver's fit
)
FIT = ("seconds", "steps", "teacher_calls", "parameters", "from_scratch")
ORDER = ["dataset", "kind", "entrant", "model", "train_seed", "nfe", "metric", "block"]


def model_name(baseline: str, accelerator: str) -> str:
    """Name of what a solver integrates: "rf", or "rf+reflow" with an accelerator, or "control"."""
    if baseline in ("", "none"):
        return "control"
    return baseline if accelerator in ("", "none") else f"{baseline}+{accelerator}"


def entrant_file(results: Path, area: str, point: dict[str, Any], suffix: str) -> Path:
    """Path of an entrant's file below `results`, e.g. area "scores" and suffix ".json"."""
    model = "control" if point["kind"] == "control" else model_name(point["baseline"], point["accelerator"])
    solver = point["entrant"] if point["kind"] == "control" else point["solver"]
    return results / area / point["dataset"] / f"seed{point['train_seed']}" / model / f"{solver}{suffix}"


def collect(results: Path, plan: list[dict[str, Any]]) -> pd.DataFrame:
    """Tidy records of the planned points and of the models behind them.

    Args:
        results: folder that holds `scores/` and `reference/`.
        plan: every planned point: dataset, entrant, kind, baseline, accelerator, solver, train_seed, nfe.

    Returns:
        One row a metric value, sorted. A point that is not ok is one row with metric "" and a null value; so is a
        planned point that no score file holds (failed). A non-finite value makes its point "diverged". A metric that
        was skipped is a row with its name, status "skipped" and a null value: it ends nothing but itself. Files and
        points outside the plan are remains of another study and left out.
    """
    rows: list[dict[str, Any]] = []
    documents: dict[Path, dict[str, Any] | str] = {}
    for point in plan:
        path = entrant_file(results, "scores", point, ".json")
        if path not in documents:
            documents[path] = _read(path, missing="no score file")
        rows.extend(_score_rows(point, documents[path]))
    for dataset, baseline, accelerator, seed in _models(plan):
        name = model_name(baseline, accelerator)
        keys = {"dataset": dataset, "baseline": baseline, "accelerator": accelerator, "model": name, "train_seed": seed}
        document = _read(results / "reference" / dataset / f"seed{seed}" / f"{name}.json", missing="no reference file")
        rows.extend(_reference_rows(keys, document))
    return _frame(rows)


def write(records: pd.DataFrame, results: Path) -> Path:
    """Write `records.parquet` atomically and return its path."""
    path = results / "records.parquet"
    with atomic(path) as temporary:
        records.to_parquet(temporary, engine="pyarrow", index=False)
    return path


def load(results: Path) -> pd.DataFrame:
    """Read `records.parquet`; without one, collect from `plan.json` and the score files."""
    path = results / "records.parquet"
    if path.exists():
        return typed(pd.read_parquet(path))
    return collect(results, json.loads((results / "plan.json").read_text()))


def worst(statuses: list[str]) -> str:
    """The worst of some statuses; one that is not known counts as failed."""
    return max(statuses, key=lambda s: STATUSES.index(s) if s in STATUSES else len(STATUSES))


def _models(plan: list[dict[str, Any]]) -> list[tuple[str, str, str, int]]:
    """(dataset, baseline, accelerator, train_seed) of every planned model, and of the baseline below each."""
    models = set()
    for p in plan:
        if p["kind"] != "control":
            for accelerator in (p["accelerator"] or "none", "none"):
                models.add((p["dataset"], p["baseline"], accelerator, int(p["train_seed"])))
    return sorted(models)


def _read(path: Path, missing: str) -> dict[str, Any] | str:
    """A JSON document, or the reason why there is none."""
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return missing
    except (OSError, ValueError) as error:
        return f"unreadable {path.name}: {' '.join(str(error).split())}"
    return document if isinstance(document, dict) else f"unreadable {path.name}: not a JSON object"


def _score_rows(point: dict[str, Any], document: dict[str, Any] | str) -> Iterator[dict[str, Any]]:
    row = {key: point[key] for key in ("dataset", "kind", "baseline", "accelerator", "solver", "entrant")}
    row |= {"train_seed": int(point["train_seed"]), "nfe": int(point["nfe"])}
    row["model"] = "control" if point["kind"] == "control" else model_name(point["baseline"], point["accelerator"])
    if isinstance(document, str):
        yield row | _not_ok("failed", document)
        return
    row |= {key: document.get(key) or "" for key in ("family", "label", "primary")}
    row["shape"] = "x".join(map(str, document.get("shape") or []))
    row |= _provenance(document)
    scored = next((p for p in document.get("points", []) if p.get("nfe") == row["nfe"]), None)
    if scored is None:
        yield row | _not_ok("failed", "no score file holds this NFE")
        return
    row |= {k: _number(scored.get(k)) for k in MEASURED}
    metrics = scored.get("metrics") or []
    status, reason = _outcome(scored, metrics)
    if status == "ok" and not any(m["metric"] == row["primary"] for m in metrics):
        status, reason = "failed", f"no value of the primary metric {row['primary']!r}"
    if status != "ok":
        yield row | _not_ok(status, reason)
        return
    extractors = document.get("extractors") or {}
    for metric in metrics:
        yield row | {"status": "ok", "reason": ""} | _metric(metric) | extractors.get(metric.get("extractor"), {})


def _reference_rows(keys: dict[str, Any], document: dict[str, Any] | str) -> Iterator[dict[str, Any]]:
    row = keys | {"kind": "reference", "entrant": keys["model"]}
    if isinstance(document, str):
        yield row | _not_ok("failed", document)
        return
    fit = document.get("fit") or {}
    row |= {f"fit_{k}": _number(fit.get(k)) for k in FIT}
    row |= {"family": document.get("family") or ""} | _provenance(document)
    metrics = document.get("metrics") or []
    status, reason = _outcome(document, metrics)
    if status != "ok":
        yield row | _not_ok(status, reason)
        return
    for metric in metrics:
        yield row | {"status": "ok", "reason": ""} | _metric(metric)


def _outcome(scored: dict[str, Any], metrics: list[dict[str, Any]]) -> tuple[str, str]:
    """(status, reason) of a point, whose values are looked at rather than believed."""
    status = scored.get("status") or "failed"
    if status != "ok":
        return status, scored.get("reason") or "no reason was given"
    if not metrics:
        return "failed", "no metric values"
    for m in metrics:
        if m.get("status", "ok") == "ok" and _number(m.get("value")) is None:
            return "diverged", f"{m['metric']} is not finite ({m.get('value')}) in block {m.get('block', -1)}"
    return "ok", ""


def _metric(metric: dict[str, Any]) -> dict[str, Any]:
    """A metric's columns. One that could not be computed (status "skipped") has its own status and no value."""
    numbers = {k: _number(metric.get(k)) for k in ("value", "stderr", "n_generated", "n_reference", "n_steps")}
    if numbers["n_generated"] is None:
        numbers["n_generated"] = _number(metric.get("n"))
    texts = {k: metric[k] for k in ("status", "reason", "warning", "extractor") if k in metric}
    parts = {"jackknife": metric["jackknife"]} if metric.get("jackknife") else {}
    return {"metric": metric["metric"], "block": int(metric.get("block", -1))} | numbers | texts | parts


def _not_ok(status: str, reason: str) -> dict[str, Any]:
    return {"status": status, "reason": " ".join(str(reason).split()), "metric": "", "value": None}


def _number(value: Any) -> float | None:
    """A finite float, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _provenance(document: dict[str, Any]) -> dict[str, str]:
    def text(value: Any) -> str:
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return {f"provenance_{key}": text(value) for key, value in (document.get("provenance") or {}).items()}


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """All columns, in a fixed order and of a fixed type; those that older records lack are empty."""
    provenance = sorted(c for c in frame.columns if c.startswith("provenance_"))
    frame = frame.reindex(columns=[*COLUMNS, *provenance])
    for column in frame.columns:
        kind = COLUMNS.get(column, "str")
        values = frame[column].astype(object)
        if kind == "list":
            frame[column] = values.where(values.notna(), None)
        elif kind == "str":
            frame[column] = values.where(values.notna(), "").astype("str")
        else:
            frame[column] = pd.to_numeric(values, errors="coerce").astype(kind)
    return frame


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = typed(pd.DataFrame(rows))
    # What a missing file would have said about its dataset and entrant is known from its neighbours.
    for key, column in (("dataset", "family"), ("dataset", "shape"), ("dataset", "primary"), ("entrant", "label")):
        known = frame[(frame[column] != "") & (frame["kind"] != "reference")].groupby(key)[column].min().to_dict()
        gap = (frame[column] == "") & ((column == "family") | (frame["kind"] != "reference"))
        frame.loc[gap, column] = [known.get(name, "") for name in frame.loc[gap, key]]
    return frame.sort_values(ORDER, kind="stable", na_position="first").reset_index(drop=True)
