"""Stage: judge one entrant's samples, block by block of latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from evaluation.metrics.frechet import Moments, frechet_distance
from fewstep.errors import DIVERGED, OK
from fewstep.facts import DATASETS
from fewstep.files import write_json
from fewstep.headers import load_arrays
from fewstep.layout import Layout
from fewstep.plan import Entrant, Plan

Metric = Callable[[np.ndarray], float]


def run(plan: Plan, layout: Layout, entrant: Entrant) -> None:
    """Write the entrant's scores: a row a point with every metric of every block, or its failure."""
    fitted, section = entrant.fitted, plan.section(entrant.fitted.dataset)
    facts = DATASETS[fitted.dataset]
    file = layout.samples(fitted.dataset, fitted.seed, entrant.model, entrant.solver)
    samples, header = load_arrays(file)
    reference = load_arrays(layout.data(fitted.dataset))[0]["x"]
    solution = {}
    if not entrant.control:
        solution, _ = load_arrays(layout.reference(fitted.dataset, fitted.seed, entrant.model, ".safetensors"))
    metrics = _distribution_metrics(fitted.dataset, reference, section.block_size)
    points = []
    for row in header["points"]:
        point = {**row, "metrics": []}
        if row["status"] == OK:
            x, probe = samples[f"nfe{row['nfe']}"], samples[f"probe_nfe{row['nfe']}"]
            found = list(_block_scores(metrics, x, section.blocks, section.block_size))
            if "solution" in solution:
                found += _ode_rmse(probe, solution["solution"], section.blocks)
            if all(math.isfinite(metric["value"]) for metric in found):
                point["metrics"] = found
            else:
                point |= {"status": DIVERGED, "reason": "a metric of the samples is not finite"}
        points.append(point)
    record = {
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
        "provenance": header["provenance"],
        "points": points,
    }
    write_json(layout.scores(fitted.dataset, fitted.seed, entrant.model, entrant.solver), record)


def _distribution_metrics(dataset: str, reference: np.ndarray, size: int) -> dict[str, tuple[Metric, int]]:
    """Metrics of `size` samples against the reference, by name, each with how many reference points it uses."""
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
