"""Stage: judge the samples of a model's entrants, block by block of latents."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np

from evaluation.judges import Judge
from fewstep.config import DatasetStudy
from fewstep.errors import DIVERGED, OK, SKIPPED, CheckpointError, UserError, one_line, status_of
from fewstep.facts import DATASETS
from fewstep.files import digest, write_json
from fewstep.headers import Arrays, load_arrays, open_arrays
from fewstep.layout import CONTROL, Layout
from fewstep.plan import Entrant, Plan
from fewstep.progress import track


def run(plan: Plan, layout: Layout, dataset: str, seed: int, model: str) -> None:
    """Write the scores of each entrant of a model: a row a point with every metric of every block, or its failure."""
    entrants, section = plan.entrants_of(dataset, seed, model), plan.section(dataset)
    solution = None
    if model != CONTROL:
        solution = load_arrays(layout.reference(dataset, seed, model, ".safetensors"))[0].get("solution")
    with _judges(plan, layout, dataset) as (judges, extractors):
        for entrant in track(entrants, "score", len(entrants), unit="entrant"):
            file = layout.samples(dataset, seed, model, entrant.solver)
            try:
                with open_arrays(file) as stored:
                    if not stored.header.get("points"):
                        raise CheckpointError(f"{file} holds no samples; delete it and run again")
                    points, origin = _points(section, stored, judges, solution), stored.header["provenance"]
            except Exception as error:  # one entrant's samples cost no other its scores
                traceback.print_exc()
                failure = {"status": status_of(error), "reason": one_line(error), "metrics": []}
                points, origin = [{"nfe": nfe, **failure} for nfe in entrant.nfes], {}
            record = _describe(plan, entrant) | {"provenance": origin, "points": points, "extractors": extractors}
            write_json(layout.scores(dataset, seed, model) / f"{entrant.solver}.json", record)


@contextlib.contextmanager
def _judges(plan: Plan, layout: Layout, dataset: str) -> Iterator[tuple[list[Judge], dict[str, dict[str, str]]]]:
    """A dataset's judges, and which weights and reference statistics the feature networks among them use."""
    section = plan.section(dataset)
    if DATASETS[dataset].exact:  # an exact field is there to show discretisation error alone
        yield [], {}
    elif not (chosen := plan.extractors(dataset)):
        from evaluation.judges.points import TransportJudge  # POT is slow to import

        reference = load_arrays(layout.data(dataset))[0]["x"]
        yield [TransportJudge(reference, section.block_size)], {}
    else:
        from evaluation.features import device_for, read_reference, why_skipped
        from evaluation.judges.images import FeatureJudge, SkippedJudge  # so is PyTorch
        from evaluation.stages.statistics import open_chosen

        lacking = {name: why_skipped(layout.statistics(dataset, name)) for name in chosen}
        present = [name for name in chosen if not lacking[name]]
        judges: list[Judge] = [SkippedJudge(name, section.metrics, why) for name, why in lacking.items() if why]
        known: dict[str, dict[str, str]] = {}
        with device_for(present, layout.state("score", dataset)) as device:
            for name in present:
                extractor = open_chosen(name, chosen[name], device)
                reference = read_reference(layout.statistics(dataset, name), extractor.identity)
                judges.append(FeatureJudge(extractor, reference, section.metrics))
                used = {"extractor_sha256": digest(extractor.identity), "reference_sha256": reference.sha256}
                known[name] = used
            yield judges, known


def _points(section: DatasetStudy, stored: Arrays, judges: list[Judge], solution: np.ndarray | None) -> list[dict]:
    """A row a point."""
    points = []
    for row in stored.header["points"]:
        point = {**row, "metrics": []}
        if row["status"] == OK:
            samples = stored.get(f"nfe{row['nfe']}")
            found = list(_scores(judges, samples, section.blocks, section.block_size))
            if solution is not None:
                found += _ode_rmse(stored.get(f"probe_nfe{row['nfe']}"), solution, section.blocks)
            if all(metric.get("status") == SKIPPED or math.isfinite(metric["value"]) for metric in found):
                point["metrics"] = found
            else:
                point |= {"status": DIVERGED, "reason": "a metric of the samples is not finite"}
        points.append(point)
    return points


def _scores(judges: list[Judge], samples: np.ndarray, blocks: int, size: int) -> Iterator[dict[str, Any]]:
    """The rows of every block; what was skipped is skipped in all of them, and said once."""
    if judges and len(samples) < blocks * size:
        raise UserError(f"{len(samples)} samples are not the study's {blocks} blocks of {size}; sample again")
    said: set[str] = set()
    for block in range(blocks):
        for judge in judges:
            for row in judge.rows(samples[block * size : (block + 1) * size]):
                if row.get("status") != SKIPPED:
                    yield row | {"block": block}
                elif row["metric"] not in said:
                    said.add(row["metric"])
                    yield row | {"block": -1}


def _describe(plan: Plan, entrant: Entrant) -> dict[str, Any]:
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
        "primary": plan.primary(fitted.dataset),
    }


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
