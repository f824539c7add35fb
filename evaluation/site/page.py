"""Builds `results/index.html`, self-contained: nothing in it is loaded from elsewhere."""

import base64
import math
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from PIL import Image

from evaluation import records as recs
from evaluation.figures import KINDS, middle_nfe
from evaluation.leaderboard import human, leaderboard, plus_minus
from fewstep.files import write_text

HEADER = ("version", "commit", "dirty", "config_hash", "device", "dtype", "torch", "python", "started")
TITLES = {
    "quality_vs_nfe": "Quality against NFE",
    "ranking": "Ranking at few calls",
    "quality_vs_seconds": "Quality against time",
    "curvature": "Curvature",
    "sample_grid": "Samples from the same latents",
    "samples_2d": "Samples over the data",
    "trajectories_2d": "Paths from noise to data",
}


def build(results: Path) -> Path:
    """Write `results/index.html` from the records and the figures below `results`, and return its path."""
    records = recs.load(results)
    board = leaderboard(records)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    names = sorted(board["dataset"].unique())
    bad = board[~board["status"].isin(["ok", "skipped"])]
    broken = records[(records["kind"] == "reference") & (records["status"] != "ok")]
    page = environment.get_template("page.html.jinja").render(
        facts=_facts(records),
        dirty="true" in set(records.get("provenance_dirty", [])),
        datasets=[_dataset(name, board[board["dataset"] == name], records, results, names) for name in names],
        failures=[*_failures(bad), *_broken_models(broken)],
        n_points=len(board),
        n_ok=int((board["status"] == "ok").sum()),
        n_skipped=int((board["status"] == "skipped").sum()),
        files=[n for n in ("leaderboard.csv", "leaderboard.md", "records.parquet") if (results / n).exists()],
    )
    path = results / "index.html"
    write_text(path, page)
    return path


def _facts(records: pd.DataFrame) -> list[tuple[str, str]]:
    """(name, values) of the provenance; of the start times only the first and the last."""
    facts = []
    for key in HEADER:
        values = sorted(set(records.get(f"provenance_{key}", [])) - {""})
        if key == "started" and len(values) > 1:
            values = [f"{values[0]} to {values[-1]}"]
        if values:
            facts.append((key.replace("_", " "), ", ".join(values[:4]) + (" …" if len(values) > 4 else "")))
    return facts


def _failures(bad: pd.DataFrame) -> list[dict[str, str]]:
    """One line an entrant and reason, with the NFEs where it failed."""
    lines = []
    for (dataset, entrant, status, reason), rows in bad.groupby(["dataset", "entrant", "status", "reason"], sort=True):
        nfes = ", ".join(map(str, sorted(rows["nfe"])))
        lines.append({"what": f"{dataset}: {entrant} at NFE {nfes}", "status": status, "reason": reason})
    return lines


def _broken_models(broken: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {"what": f"{r.dataset}: {r.model}, training seed {r.train_seed}", "status": r.status, "reason": r.reason}
        for r in broken.itertuples()
    ]


def _dataset(name: str, rows: pd.DataFrame, records: pd.DataFrame, results: Path, names: list[str]) -> dict[str, Any]:
    metrics = [c.removesuffix("_mean") for c in rows.columns if c.endswith("_mean") and rows[c].notna().any()]
    seeds = sorted(records.loc[(records["dataset"] == name) & (records["kind"] != "reference"), "train_seed"].unique())
    over = sorted(set(rows["interval_over"]) - {"none"})
    return {
        "name": name,
        "metric": rows["metric"].iloc[0],
        "others": metrics,
        "over": " and ".join(over).replace("_", " "),
        "seeds": ", ".join(map(str, seeds)),
        "n_values": int(rows["n_values"].max()),
        "rows": [_row(row, metrics, [int(s) for s in seeds], results) for row in rows.to_dict("records")],
        "filters": {
            "NFE": ("nfe", sorted(map(int, rows["nfe"].unique()))),
            "baseline": ("baseline", sorted(set(rows["baseline"]))),
            "accelerator": ("accelerator", sorted(set(rows["accelerator"]))),
            "solver": ("solver", sorted(set(rows["solver"]))),
            "status": ("status", sorted(set(rows["status"]))),
        },
        "nfe": middle_nfe(rows),
        "figures": _figures(name, results, names),
    }


def _row(row: dict[str, Any], metrics: list[str], seeds: list[int], results: Path) -> dict[str, Any]:
    def cell(value: float, text: str | None = None) -> dict[str, str]:
        known = pd.notna(value) and math.isfinite(value)
        return {"sort": f"{value:.12g}" if known else "", "text": (text or human(float(value))) if known else ""}

    half = f"{human(row['low'])} to {human(row['high'])}" if pd.notna(row["low"]) else ""
    numbers = [cell(row["mean"], plus_minus(row["mean"], row["low"], row["high"]))]
    numbers += [cell(row[f"{m}_mean"]) for m in metrics]
    costs = ("curvature", "gflop_per_sample", "seconds_per_sample", "fit_seconds", "solver_fit_calls")
    numbers += [cell(row[c]) for c in costs]
    numbers += [cell(row["n_values"], str(row["n_values"]))]
    keys = ("entrant", "label", "baseline", "accelerator", "solver", "nfe", "status", "reason", "decided")
    rank = "" if pd.isna(row["rank"]) else str(row["rank"])
    return {k: row[k] for k in keys} | {
        "rank": rank,
        "interval": half,
        "numbers": numbers,
        "links": _links(row, seeds, results),
        "text": " ".join(str(row[k]) for k in ("entrant", "label", "status", "reason")).lower(),
    }


def _links(row: dict[str, Any], seeds: list[int], results: Path) -> list[dict[str, str]]:
    """Relative links to the pictures and logs of an entrant, as far as they exist."""
    links = []
    for area, suffix, text in (
        ("figures/entrants", ".png", "samples"),
        ("logs/sample", ".log", "log"),
        ("../logs/sample", ".log", "log"),
    ):
        for seed in seeds:
            path = recs.entrant_file(Path(area), "", row | {"train_seed": seed}, suffix)
            if (results / path).exists():
                name = text if len(seeds) == 1 else f"{text} {seed}"
                links.append({"href": path.as_posix(), "text": name, "of": f"{row['entrant']}, training seed {seed}"})
    return links


def _figures(dataset: str, results: Path, names: list[str]) -> list[dict[str, str]]:
    """The figures of a dataset in the order of their kinds, as data URLs, with the captions that the files carry."""
    figures = []
    longer = tuple(f"{other}_" for other in names if other.startswith(f"{dataset}_"))
    for kind in KINDS:
        for path in sorted((results / "figures").glob(f"{dataset}_{kind}*.png"), key=lambda p: (len(p.name), p.name)):
            if longer and path.name.startswith(longer):
                continue
            with Image.open(path) as image:
                caption, (width, height) = getattr(image, "text", {}).get("Description", ""), image.size
            data = base64.b64encode(path.read_bytes()).decode()
            files = [path.with_suffix(s).relative_to(results).as_posix() for s in (".png", ".svg", ".csv")]
            nfe = path.stem.rpartition("_nfe")[2]
            title = TITLES.get(kind, kind) + (f", NFE {nfe}" if nfe.isdigit() else "")
            figures.append(
                {"title": title, "caption": caption, "data": data, "files": files, "width": width, "height": height}
            )
    return figures
