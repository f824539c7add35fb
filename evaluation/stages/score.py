"""Stage: judge the samples of a model's entrants, block by block of latents."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.judges import Judge, Row
from evaluation.study import check
from fewstep.config import DatasetStudy
from fewstep.errors import DIVERGED, OK, SKIPPED, CheckpointError, UserError, one_line, status_of
from fewstep.facts import DATASETS
from fewstep.files import digest, write_json
from fewstep.headers import load_arrays, open_arrays, read_header
from fewstep.layout import CONTROL, Layout
from fewstep.plan import Entrant, Plan
from fewstep.progress import track


def run(plan: Plan, layout: Layout, dataset: str, seed: int, model: str) -> None:
    """Write the scores of each entrant of a model: a row a point with every metric of every block, or its failure."""
    check(plan)
    sheets = [Sheet(plan, layout, entrant) for entrant in plan.entrants_of(dataset, seed, model)]
    used: dict[str, dict[str, str]] = {}
    for open_judge in _judges(plan, layout, dataset):  # one at a time: networks and references are large
        with open_judge() as (judge, facts):
            used |= facts
            for sheet in track(sheets, "score", len(sheets), unit="entrant"):
                sheet.add(partial(_scores, judge, plan.section(dataset)))
    if model != CONTROL:
        solution = load_arrays(layout.reference(dataset, seed, model, ".safetensors"))[0].get("solution")
        if solution is not None:
            for sheet in sheets:
                sheet.add(partial(_ode_rmse, solution, plan.section(dataset).blocks), "probe_")
    for sheet in sheets:
        solver = sheet.entrant.solver
        write_json(layout.scores(dataset, seed, model) / f"{solver}.json", sheet.record(plan, used))


class Sheet:
    """An entrant's points and what the judges found of them; whatever goes wrong costs this entrant alone."""

    def __init__(self, plan: Plan, layout: Layout, entrant: Entrant):
        fitted = entrant.fitted
        self.entrant, self.points, self.origin = entrant, [], {}
        self.file = layout.samples(fitted.dataset, fitted.seed, entrant.model, entrant.solver)
        with self._guarded():
            header = read_header(self.file)
            if not header.get("points"):
                raise CheckpointError(f"{self.file} holds no samples; delete it and run again")
            self.points, self.origin = [{**row, "metrics": []} for row in header["points"]], header["provenance"]

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            failure = {"status": status_of(error), "reason": one_line(error), "metrics": []}
            self.points, self.origin = [{"nfe": nfe, **failure} for nfe in self.entrant.nfes], {}

    def add(self, rows: Callable[[np.ndarray], Iterable[Row]], prefix: str = "") -> None:
        """What `rows` says of the arrays `<prefix>nfe<n>` of every point that is ok."""
        points = [point for point in self.points if point["status"] == OK]
        if not points:
            return
        with self._guarded(), open_arrays(self.file) as stored:
            for point in points:
                found = list(rows(stored.get(f"{prefix}nfe{point['nfe']}")))
                if all(metric.get("status") == SKIPPED or math.isfinite(metric["value"]) for metric in found):
                    point["metrics"] += found
                else:
                    point |= {"status": DIVERGED, "reason": "a metric of the samples is not finite", "metrics": []}

    def record(self, plan: Plan, extractors: dict[str, dict[str, str]]) -> dict[str, Any]:
        """The score file."""
        return _describe(plan, self.entrant) | {
            "provenance": self.origin,
            "points": self.points,
            "extractors": extractors,
        }


Opened = contextlib.AbstractContextManager[tuple[Judge, dict[str, dict[str, str]]]]


def _judges(plan: Plan, layout: Layout, dataset: str) -> Iterator[Callable[[], Opened]]:
    """What opens each of a dataset's judges, with the weights and reference statistics that it uses."""
    section, facts = plan.section(dataset), DATASETS[dataset]
    if facts.family == "image":
        for name in plan.extractors(dataset):
            yield partial(_of_extractor, plan, layout, dataset, name)
    elif not facts.exact:  # an exact field is there to show discretisation error alone
        yield partial(_of_points, layout.data(dataset), section.block_size)


@contextlib.contextmanager
def _of_points(data: Path, size: int) -> Iterator[tuple[Judge, dict]]:
    from evaluation.judges.points import TransportJudge  # POT is slow to import

    yield TransportJudge(load_arrays(data)[0]["x"], size), {}


@contextlib.contextmanager
def _of_extractor(plan: Plan, layout: Layout, dataset: str, name: str) -> Iterator[tuple[Judge, dict]]:
    from evaluation.features import device_for, read_reference, why_skipped
    from evaluation.judges.images import FeatureJudge, SkippedJudge  # so is PyTorch
    from evaluation.stages.statistics import open_chosen

    metrics, statistics = plan.section(dataset).metrics, layout.statistics(dataset, name)
    if reason := why_skipped(statistics):
        yield SkippedJudge(name, metrics, reason), {}
        return
    with device_for(name, layout.state("score", dataset)) as device:
        extractor = open_chosen(name, plan.extractors(dataset)[name], device)
        reference = read_reference(statistics, extractor.identity)
        used = {"extractor_sha256": digest(extractor.identity), "reference_sha256": reference.sha256}
        yield FeatureJudge(extractor, reference, metrics), {name: used}


def _scores(judge: Judge, section: DatasetStudy, samples: np.ndarray) -> Iterator[Row]:
    """The rows of every block; what was skipped is skipped in all of them, and said once."""
    blocks, size = section.blocks, section.block_size
    if len(samples) < blocks * size:
        raise UserError(f"{len(samples)} samples are not the study's {blocks} blocks of {size}; sample again")
    for block in range(blocks):
        for row in judge.rows(samples[block * size : (block + 1) * size]):
            if row.get("status") != SKIPPED:
                yield row | {"block": block}
            elif block == 0:
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


def _ode_rmse(solution: np.ndarray, blocks: int, probe: np.ndarray) -> list[dict[str, Any]]:
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
