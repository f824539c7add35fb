"""What a plan's files will hold, and how much of that is not there yet."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from fewstep.costs.judging import FEATURE_LENGTH, ON_FEATURES
from fewstep.costs.networks import size_of
from fewstep.facts import DATASETS
from fewstep.layout import Layout
from fewstep.pairset import PATHS
from fewstep.plan import Entrant, Fitted, Plan

FLOAT = 4
KEPT = 2 * 16  # images and nodes of a model's paths that its reference keeps, and codes and paces beside them
STATE = 4  # copies of the weights while a model trains: weights, average, two moments of Adam
PICTURES = 12e6  # of a dataset's figures, tables, scores and logs
DIGITS = 1797


@dataclass(frozen=True)
class File:
    """An output, what kind it is, about how many bytes it will have, and where its parts lie until it is whole."""

    kind: str
    dataset: str
    path: Path
    bytes: float
    parts: Path | None = None

    @property
    def missing(self) -> float:
        """Bytes that are yet to be written."""
        if self.path.exists():
            return 0.0
        begun = self.parts.iterdir() if self.parts and self.parts.is_dir() else ()
        return max(self.bytes - sum(part.stat().st_size for part in begun), 0.0)


def images_of(plan: Plan, dataset: str) -> int:
    """Samples of the reference set."""
    facts, section = DATASETS[dataset], plan.section(dataset)
    if not facts.real:
        return DIGITS if facts.family == "image" else section.block_size
    return (section.source and (section.source.first or section.source.count)) or facts.count


def files(plan: Plan, layout: Layout) -> list[File]:
    """All outputs that have a size worth mention, with their estimates."""
    found: list[File] = []
    for dataset in plan.study.datasets:
        found += _of_data(plan, layout, dataset)
        found += [_model(plan, layout, fitted) for fitted in plan.fitted if fitted.dataset == dataset]
        found += _pairs(plan, layout, dataset)
        found += [_reference(plan, layout, fitted) for fitted in plan.fitted if fitted.dataset == dataset]
        found += [_samples(plan, layout, entrant) for entrant in plan.entrants if entrant.fitted.dataset == dataset]
        found.append(File("pictures", dataset, layout.root / "figures", PICTURES))
    return found


def working_space(plan: Plan) -> float:
    """Bytes that the largest job keeps while it runs: a training state, old and new, or the points of an entrant."""
    states = [2 * STATE * FLOAT * size_of(plan.section(f.dataset), f.dataset).parameters for f in plan.fitted]
    points = [_sample_bytes(plan, entrant) for entrant in plan.entrants]
    return max([*states, *points], default=0.0)


def still_needed(plan: Plan, layout: Layout) -> float:
    """Bytes that a run has yet to write at its fullest."""
    missing = sum(file.missing for file in files(plan, layout))
    return missing + (working_space(plan) if missing else 0.0)


def free(folder: Path) -> float:
    """Free bytes where `folder` is, or will be."""
    there = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    return shutil.disk_usage(there).free


def _values(dataset: str) -> int:
    return math.prod(DATASETS[dataset].shape)


def _of_data(plan: Plan, layout: Layout, dataset: str) -> list[File]:
    facts, images = DATASETS[dataset], images_of(plan, dataset)
    each = _values(dataset) * (1 if facts.real else FLOAT) + 8 * bool(facts.classes)
    found = [File("data", dataset, layout.data(dataset), images * each)]
    if facts.family == "image":
        keep = bool(ON_FEATURES & set(plan.section(dataset).metrics))
        for name in plan.extractors(dataset):
            length = FEATURE_LENGTH[name]
            held = 8 * length * (length + 1) + FLOAT * images * length * keep
            found.append(File("statistics", dataset, layout.statistics(dataset, name), held))
    return found


def _model(plan: Plan, layout: Layout, fitted: Fitted) -> File:
    size = size_of(plan.section(fitted.dataset), fitted.dataset)
    path = layout.model(fitted.dataset, fitted.seed, fitted.model)
    return File("models", fitted.dataset, path, FLOAT * size.parameters)


def _pairs(plan: Plan, layout: Layout, dataset: str) -> list[File]:
    """Sets of one series share their shards, so that the largest counts."""
    largest: dict[Path, File] = {}
    for teacher, pairs in plan.pairs:
        if teacher.dataset == dataset:
            nodes = pairs.nfe + 1 if pairs.keep == PATHS else 1
            held = pairs.n * nodes * _values(dataset) * (1 if pairs.dtype == "uint8" else FLOAT)
            folder = layout.shards(dataset, teacher.seed, teacher.model, pairs.series)
            path = layout.pairs(dataset, teacher.seed, teacher.model, pairs.name)
            if folder not in largest or largest[folder].bytes < held:
                largest[folder] = File("pairs", dataset, path, held, folder)
    return list(largest.values())


def _reference(plan: Plan, layout: Layout, fitted: Fitted) -> File:
    probes = plan.section(fitted.dataset).probes
    path = layout.reference(fitted.dataset, fitted.seed, fitted.model)
    nodes = KEPT * KEPT // 4 if DATASETS[fitted.dataset].family == "image" else probes * KEPT
    return File("references", fitted.dataset, path, FLOAT * _values(fitted.dataset) * (probes + nodes))


def _samples(plan: Plan, layout: Layout, entrant: Entrant) -> File:
    fitted = entrant.fitted
    path = layout.samples(fitted.dataset, fitted.seed, entrant.model, entrant.solver)
    return File("samples", fitted.dataset, path, _sample_bytes(plan, entrant))


def _sample_bytes(plan: Plan, entrant: Entrant) -> float:
    dataset, section = entrant.fitted.dataset, plan.section(entrant.fitted.dataset)
    each = 1 if DATASETS[dataset].family == "image" else FLOAT
    values = section.n_samples * each + min(section.probes, section.n_samples) * FLOAT
    return len(entrant.nfes) * values * _values(dataset)
