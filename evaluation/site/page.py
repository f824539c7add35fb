"""Builds `results/index.html`, self-contained: nothing in it is loaded from elsewhere."""

import base64
import gzip
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from evaluation import records as recs
from evaluation.leaderboard import leaderboard
from evaluation.metrics import METRICS, Metric
from evaluation.site import looks, papers, pictures, points, rows
from fewstep.files import write_text

HEADER = ("version", "commit", "dirty", "config_hash", "device", "dtype", "torch", "python", "started")
FILES = ("leaderboard.csv", "leaderboard.md", "models.csv", "models.md", "records.parquet")


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
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    names, metrics = sorted(board["dataset"].unique()), _metrics(board)
    bad = board[~board["status"].isin(["ok", "skipped"])]
    broken = records[(records["kind"] == "reference") & (records["status"] != "ok")]
    page = environment.get_template("page.html.jinja").render(
        facts=_facts(records),
        dirty="true" in set(records.get("provenance_dirty", [])),
        datasets=[_dataset(name, board, records, results, names) for name in names],
        figures=pictures.of_study(results, names),
        failures=[*_failures(bad), *_broken_models(broken)],
        n_points=len(board),
        n_ok=int((board["status"] == "ok").sum()),
        n_skipped=int((board["status"] == "skipped").sum()),
        papers=papers.sections(results),
        index="tables/index.md" if (results / "tables" / "index.md").exists() else "",
        metrics=metrics,
        files=[name for name in FILES if (results / name).exists()],
        data=points.data(board, records, results) | {"looks": looks.of(board), "metrics": metrics},
        plotly=base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode(),
    )
    path = results / "index.html"
    write_text(path, page)
    return path


def _dataset(name: str, board: pd.DataFrame, records: pd.DataFrame, results: Path, names: list[str]) -> dict[str, Any]:
    seeds = sorted(records.loc[(records["dataset"] == name) & (records["kind"] != "reference"), "train_seed"].unique())
    table = rows.table(name, board[board["dataset"] == name], [int(s) for s in seeds], results)
    return table | {"figures": pictures.of_dataset(name, results, names)}


def _metrics(board: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Label, unit and direction of the study's metrics; of one that is not known here only the direction."""
    names = [*board["metric"].unique(), *(c.removesuffix("_mean") for c in board.columns if c.endswith("_mean"))]
    known = {name: METRICS.get(name, Metric(name, "", False, ())) for name in dict.fromkeys(names) if name}
    return {
        name: {
            "label": m.label,
            "unit": m.unit,
            "better": "higher is better" if m.higher_is_better else "lower is better",
        }
        for name, m in known.items()
    }


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
    for (dataset, entrant, status, reason), group in bad.groupby(["dataset", "entrant", "status", "reason"], sort=True):
        nfes = ", ".join(map(str, sorted(group["nfe"])))
        lines.append({"what": f"{dataset}: {entrant} at NFE {nfes}", "status": status, "reason": reason})
    return lines


def _broken_models(broken: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {"what": f"{r.dataset}: {r.model}, training seed {r.train_seed}", "status": r.status, "reason": r.reason}
        for r in broken.itertuples()
    ]
