"""Stage: judge the samples of a model's entrants, block by block of latents."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.metrics.frechet import Moments, frechet_distance
from fewstep.config import DatasetStudy
from fewstep.errors import DIVERGED, OK, one_line, status_of
from fewstep.facts import DATASETS
from fewstep.files import write_json
from fewstep.headers import load_arrays
from fewstep.layout import CONTROL, Layout
from fewstep.plan import Entrant, Plan
from fewstep.progress import track

Metrics = dict[str, tuple[Callable[[np.ndarray], float], int]]


def run(plan: Plan, layout: Layout, dataset: str, seed: int, model: str) -> None:
    """Write the scores of each entrant of a model: a row a point with every metric of every block, or its failure."""
    entrants = plan.entrants_of(dataset, seed, model)
    reference = load_arrays(layout.data(dataset))[0]["x"]
    solution = None
    if model != CONTROL:
        solution = load_arrays(layout.reference(dataset, seed, model, ".safetensors"))[0].get("solution")
    metrics = _distribution_metrics(dataset, reference, plan.section(dataset).block_size)
    for entrant in track(entrants, "score", len(entrants), unit="entrant"):
        file = layout.samples(dataset, seed, model, entrant.solver)
        try:
            points, origin = _points(plan.section(dataset), file, metrics, solution)
        except Exception as error:  # one entrant's samples cost no other its scores
            traceback.print_exc()
            failure = {"status": status_of(error), "reason": one_line(error), "metrics": []}
            points, origin = [{"nfe": nfe, **failure} for nfe in entrant.nfes], {}
        record = _describe(entrant) | {"provenance": origin, "points": points}
        write_json(layout.scores(dataset, seed, model) / f"{entrant.solver}.json", record)


def _points(section: DatasetStudy, file: Path, metrics: Metrics, solution: np.ndarray | None):
    """A row a point, and where the samples come from."""
    samples, header = load_arrays(file)
    points = []
    for row in header["points"]:
        point = {**row, "metrics": []}
        if row["status"] == OK:
            x, probe = samples[f"nfe{row['nfe']}"], samples[f"probe_nfe{row['nfe']}"]
            found = list(_block_scores(metrics, x, section.blocks, section.block_size))
            if solution is not None:
                found += _ode_rmse(probe, solution, section.blocks)
            if all(math.isfinite(metric["value"]) for metric in found):
                point["metrics"] = found
            else:
                point |= {"status": DIVERGED, "reason": "a metric of the samples is not finite"}
        points.append(point)
    return points, header["provenance"]


def _describe(entrant: Entrant) -> dict[str, Any]:
    fitted, facts = entrant.fitted, DATASETS[entrant.fitted.dataset]
    return {
        "dataset": fitted.dataset,
        "family": facts.family,
        "shape": list(facts.shape),
        "kind": "control" if entrant.control else "entrant",
        "baseline": fitted.baseline,
        "accelerator": fitted.accelerator,
        "solver": entrant.solver,
        "entrant": entrant.name,
        "label": entrant.label,
        "train_seed": fitted.seed,
        "primary": facts.primary,
    }


def _distribution_metrics(dataset: str, reference: np.ndarray, size: int) -> Metrics:
    """Metrics of `size` samples against the reference, by name, each with how many reference points it uses."""
    if DATASETS[dataset].primary == "ode_rmse":  # an exact field is there to show discretisation error alone
        return {}
    if DATASETS[dataset].primary == "fd_digits":
        from evaluation.extractors import digits

        wanted = Moments(digits.features(reference))
        return {"fd_digits": (lambda x: frechet_distance(Moments(digits.features(x)), wanted), len(reference))}
    from evaluation.metrics.wasserstein import sliced_w2, w2  # POT is slow to import

    # As many reference points as samples: the exact plan takes time and memory quadratic in them.
    near = reference[:size]
    return {"w2": (lambda x: w2(x, near), len(near)), "sliced_w2": (lambda x: sliced_w2(x, reference), len(reference))}


def _block_scores(metrics, x: np.ndarray, blocks: int, size: int) -> Iterator[dict[str, Any]]:
    for block in range(blocks):
        for name, (metric, n_reference) in metrics.items():
            value = metric(x[block * size : (block + 1) * size])
            counts = {"n_generated": size, "n_reference": n_reference}
            yield {"metric": name, "block": block, "value": float(value), **counts}


def _ode_rmse(probe: np.ndarray, solution: np.ndarray, blocks: int) -> list[dict[str, Any]]:
    """Root mean square distance to the same latents' converged ODE solution, per block of probes."""
    n = min(len(probe), len(solution))
    squares = np.square(probe[:n].astype(np.float64) - solution[:n]).reshape(n, -1).mean(1)
    return [
        {
            "metric": "ode_rmse",
            "block": block,
            "value": float(np.sqrt(part.mean())),
            "n_generated": len(part),
            "n_reference": n,
        }
        for block, part in enumerate(np.array_split(squares, blocks))
        if len(part)
    ]
