"""A small synthetic results folder: an image and a vector dataset, scored by a formula, with every kind of failure."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from evaluation import leaderboard, models, records

NFES = (1, 2, 5)
ACCELERATORS = {"none": ("euler", "heun"), "bend": ("euler",), "fold": ("euler", "heun")}
QUALITY = {"euler": 1.0, "heun": 0.7}


def entrant_points(dataset, baselines, seeds):
    """Planned points of a study, controls included."""
    keys = ("dataset", "entrant", "kind", "baseline", "accelerator", "solver", "train_seed", "nfe")
    plan = []
    for seed in seeds:
        for name in ("noise", "data"):
            plan.append(dict(zip(keys, (dataset, name, "control", "none", "none", name, seed, 0), strict=True)))
        for baseline in baselines:
            for accelerator, solvers in ACCELERATORS.items():
                for solver in solvers:
                    name = f"{records.model_name(baseline, accelerator)}/{solver}"
                    for nfe in NFES:
                        row = (dataset, name, "entrant", baseline, accelerator, solver, seed, nfe)
                        plan.append(dict(zip(keys, row, strict=True)))
    return plan


def quality(point, block):
    """A made-up score: falls with the NFE, differs by entrant, with one block effect that all entrants share."""
    if point["kind"] == "control":
        base = 1700.0 if point["entrant"] == "noise" else 3.0
    else:
        base = 400 * QUALITY[point["solver"]] / point["nfe"] * (0.4 if point["accelerator"] != "none" else 1)
        base *= 1 + 0.1 * len(point["baseline"])
    name = f"{point['entrant']}{point['nfe']}{point['train_seed']}{block}"
    jitter = np.random.default_rng(list(name.encode())).normal() * 0.01
    return base * (1 + 0.05 * block + 0.02 * point["train_seed"] + jitter)


def make_results(root: Path, seeds=(0, 1), baselines=("arc", "line")) -> Path:
    """A results folder: an image and a vector dataset; one diverged point, one nan, one missing file, one skipped."""
    results = root / "results"
    plan = [p for d in ("glyphs", "rings") for p in entrant_points(d, baselines, seeds)]
    files = documents(results, plan)
    _break(files, results)
    return write_study(results, plan, files)


def documents(results: Path, plan, value=quality) -> dict[Path, dict]:
    """The score files of a plan, every point ok: `value(point, block)` is the primary metric."""
    files: dict[Path, dict] = {}
    for p in plan:
        image = p["dataset"] == "glyphs"
        primary = "fd_glyphs" if image else "w2"
        path = records.entrant_file(results, "scores", p, ".json")
        label = f"{p['baseline'].upper()} + {p['accelerator']}, {p['solver']}".replace(" + none", "")
        document = files.setdefault(
            path,
            {k: p[k] for k in ("dataset", "kind", "baseline", "accelerator", "solver", "entrant", "train_seed")}
            | {"family": "image" if image else "vector", "shape": [1, 8, 8] if image else [2], "primary": primary}
            | {"label": label if p["kind"] == "entrant" else p["entrant"], "points": [], "provenance": PROVENANCE},
        )
        rows = [
            {"metric": primary, "block": b, "value": value(p, b), "n_generated": 100, "n_reference": 200}
            for b in range(3)
        ]
        rows.append({"metric": "ode_rmse", "block": -1, "value": 0.1 / (1 + p["nfe"])} | SMALL)
        cost = {"nfe_measured": p["nfe"], "gflop_per_sample": 0.01 * p["nfe"], "seconds_per_sample": 1e-4 * p["nfe"]}
        document["points"].append(
            {"nfe": p["nfe"], "status": "ok", "reason": "", "n_samples": 300, "metrics": rows} | cost
        )
    return files


def write_study(results: Path, plan, files: dict[Path, dict]) -> Path:
    """Write score files, plan, references and samples; returns the results folder."""
    for path, document in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    (results / "plan.json").write_text(json.dumps(plan))
    _references(results, plan)
    _tensors(results, plan)
    return results


SMALL = {"n_generated": 64, "n_reference": 64}
PROVENANCE = {
    "version": "0.1.0",
    "commit": "abc1234",
    "dirty": True,
    "device": "cpu",
    "started": "2026-01-02T03:04:05Z",
}
MISSING = "glyphs/seed1/arc+fold/heun.json"


def _break(files, results):
    scores = results / "scores"
    if document := files.get(scores / "glyphs/seed0/arc+bend/euler.json"):
        document["points"][0] |= {"status": "timeout", "reason": "no answer after <60> s", "metrics": []}
    if document := files.get(scores / "rings/seed1/line/heun.json"):
        document["points"][1]["metrics"][2]["value"] = math.nan
    for seed in (0, 1):
        if document := files.get(scores / f"rings/seed{seed}/line+fold/heun.json"):
            document["points"][0] |= {"status": "skipped", "reason": "needs 2 calls", "metrics": []}
    files.pop(scores / MISSING, None)


def _references(results, plan):
    for p in plan:
        if p["kind"] == "control":
            continue
        model = records.model_name(p["baseline"], p["accelerator"])
        path = results / "reference" / p["dataset"] / f"seed{p['train_seed']}" / f"{model}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        family = "image" if p["dataset"] == "glyphs" else "vector"
        curvature = 0.1 + 0.01 * len(model) + 0.003 * p["train_seed"]
        metrics = [{"metric": "curvature", "value": curvature, "stderr": 0.002, "n": 512, "n_steps": 128}]
        fit = {"seconds": 80.0 if p["accelerator"] == "none" else 20.0, "steps": 10, "teacher_calls": 0}
        keys = {k: p[k] for k in ("dataset", "baseline", "accelerator", "train_seed")}
        document = keys | {"family": family, "model": model, "status": "ok", "reason": "", "metrics": metrics}
        path.write_text(json.dumps(document | {"fit": fit | {"parameters": 9}, "provenance": PROVENANCE}))


def _tensors(results, plan):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 200)
    rings = (np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(size=(200, 2)) * 0.05).astype("float32")
    glyphs = np.sin(np.arange(64).reshape(1, 1, 8, 8) * rng.uniform(0.1, 1, (200, 1, 1, 1))).astype("float32")
    clean = {"rings": rings, "glyphs": glyphs}
    (results / "data").mkdir(parents=True, exist_ok=True)
    for name, x in clean.items():
        save_file({"x": x}, results / "data" / f"{name}.safetensors")
    written: dict[Path, dict] = {}
    for p in plan:
        x = clean[p["dataset"]]
        noisy = (x + rng.normal(size=x.shape) * 0.5 / (1 + p["nfe"])).astype("float32")
        if p["dataset"] == "glyphs":
            noisy = np.clip(127.5 * noisy + 128, 0, 255).astype("uint8")
        written.setdefault(records.entrant_file(results, "samples", p, ".safetensors"), {})[f"nfe{p['nfe']}"] = noisy
        if p["kind"] == "control":
            continue
        model = records.model_name(p["baseline"], p["accelerator"])
        path = results / "reference" / p["dataset"] / f"seed{p['train_seed']}" / f"{model}.safetensors"
        times = np.linspace(1, 0, 9, dtype="float32")
        shape = (9,) + (1,) * (x.ndim)
        start = rng.normal(size=x[:16].shape)
        paths = (times.reshape(shape) * start + (1 - times.reshape(shape)) * x[:16]).astype("float32")
        written.setdefault(path, {"trajectory": paths, "trajectory_times": times, "solution": x[:16].copy()})
    for path, tensors in written.items():
        if "glyphs/seed1/arc+fold/heun" in path.as_posix():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)


def collected(results: Path) -> pd.DataFrame:
    return records.collect(results, json.loads((results / "plan.json").read_text()))


def summarised(results: Path) -> pd.DataFrame:
    """Collect the records, write them, the leaderboard and the models as a run does, and return them."""
    tidy = collected(results)
    records.write(tidy, results)
    leaderboard.write(tidy, results)
    models.write(tidy, results)
    return tidy
