"""A synthetic study with many solvers: values that spread over decades, gaps in the NFEs, failed points."""

import json
from pathlib import Path

import numpy as np

from evaluation import records
from fewstep import registry
from tests.evaluation.synthetic import documents, summarised, write_study

KEYS = ("dataset", "entrant", "kind", "baseline", "accelerator", "solver", "train_seed", "nfe")
STEPS = ((1, 1), (1, 1), (1, 2), (2, 2), (3, 3), (1, 1), (4, 4), (1, 1))  # (first NFE, step) of every eighth solver
REASONS = ("failed", "diverged", "timeout", "out_of_memory")


def names(n: int) -> list[str]:
    return [f"{'solver' if i % 3 else 'multistep_solver'}-{i:02d}" for i in range(n)]


def planned(dataset: str, models: list[tuple[str, str]], solvers: list[str], nfes: list[int], seeds=(0,)) -> list[dict]:
    """Points of every model with every solver, which can't make every NFE; and the controls."""
    rows = [(dataset, c, "control", "none", "none", c, s, 0) for c in ("noise", "data") for s in seeds]
    for baseline, accelerator in models:
        for i, solver in enumerate(solvers):
            first, step = STEPS[i % len(STEPS)]
            name = f"{records.model_name(baseline, accelerator)}/{solver}"
            possible = [n for n in nfes if n >= first and (n - first) % step == 0]
            rows += [(dataset, name, "entrant", baseline, accelerator, solver, s, n) for s in seeds for n in possible]
    return [dict(zip(KEYS, row, strict=True)) for row in rows]


def value(point: dict, block: int) -> float:
    """An error that falls with a power of the NFE; solvers of a higher order begin worse."""
    if point["kind"] == "control":
        return {"noise": 210.0, "data": 0.05}[point["entrant"]] * (1 + 0.01 * block)
    rng = np.random.default_rng(list(point["entrant"].encode()))
    order, start = rng.uniform(0.8, 3.5), np.exp(rng.normal() * 0.5)
    fitted = 0.05 if point["accelerator"] != "none" else 1.0
    bumps = np.random.default_rng(list(f"{point['entrant']}{point['nfe']}".encode())).normal() * 0.25
    noise = np.random.default_rng([point["train_seed"], block, point["nfe"]]).normal() * 0.05
    fall = (point["nfe"] / 2) ** -(order * (0.4 if fitted < 1 else 1))
    return float(60 * fitted * start * 1.5**order * fall * np.exp(bumps + noise) + 0.01)


def levels(solver: str, nfe: int) -> list[float]:
    """u of every call: uniform, bent by what is learnt for each NFE."""
    known = registry.of_kind("solver")
    bend = 2.0 if solver in known and known[solver].order == 0 else 1.0
    return [0.98 * (1 - i / nfe) ** bend for i in range(nfe)]


def make_crowd(results: Path, plan: list[dict], quality=value, broken: int = 29) -> Path:
    """Write the study of a plan, with its records and leaderboard; every `broken`-th point is not ok."""
    files = documents(results, plan, quality)
    entrants = [d for d in files.values() if d["kind"] == "entrant"]
    points = [point for document in entrants for point in document["points"]]
    for i, point in enumerate(points[broken - 1 :: broken] if broken else []):
        status = REASONS[i % len(REASONS)]
        point |= {"status": status, "reason": f"made up to be {status}", "metrics": []}
    for document in entrants:
        for point in document["points"]:
            point["levels"] = levels(document["solver"], point["nfe"])
    write_study(results, plan, files)
    for path in results.glob("reference/*/seed*/*.json"):
        document = json.loads(path.read_text())
        document["fit"]["curves"] = {"train": [[step, 10 / step + 0.1] for step in range(1, 51)]}
        path.write_text(json.dumps(document))
    summarised(results)
    return results
