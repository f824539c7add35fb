"""What a job asks a cluster for: GPUs, processors, memory, minutes. All are rough and on the safe side; a profile's
`set-resources` says otherwise. On one machine Snakemake reads `gpu` alone, and only beside `--resources gpu=N`.
"""

from __future__ import annotations

import math

from fewstep.config import DatasetStudy
from fewstep.facts import DATASETS
from fewstep.pairset import PATHS
from fewstep.plan import Plan

SPREAD = ("train", "fit", "pairs", "part", "sample")  # stages that run on as many GPUs as `compute.gpus` says
ALONE = ("reference", "statistics", "score")  # and these on one
DRAWN = ("part", "sample", "gather", "score")  # stages that hold samples; `gather` puts parts together
CPUS_PER_GPU = 4  # one process a GPU, with the threads that feed it

BASE = {"data": 1000, "score": 3000, "statistics": 3000}  # MB of a process with its libraries; 2000 for the others
PER_GPU = 4000  # MB of host memory beside each GPU's own
WIDTH = 2048  # of the widest features, as float64 where moments are taken

MARGIN = 15  # minutes for the start of a job, and for reading and writing
DECODED = 100  # images a second that are read from files
JUDGED = {True: 100, False: 2}  # images a second through the largest feature network, with a GPU and without


def gpus(section: DatasetStudy, stage: str) -> int:
    """GPUs of a stage's job: all that a section gives a job, one where a stage has no use for more, or none."""
    return section.compute.gpus if stage in SPREAD else min(1, section.compute.gpus) if stage in ALONE else 0


def cpus(section: DatasetStudy, stage: str) -> int:
    """Processors of a stage's job."""
    return max(1, CPUS_PER_GPU * gpus(section, stage))


def megabytes(plan: Plan, dataset: str, stage: str) -> int:
    """Host memory of a stage's job, in MB."""
    section, facts = plan.section(dataset), DATASETS[dataset]
    images = _images(section, dataset)
    values = math.prod(facts.shape)
    held = images * values  # bytes of the reference set, which is mapped into memory
    if stage in DRAWN:
        points = max((len(entrant.nfes) for entrant in plan.entrants if entrant.fitted.dataset == dataset), default=0)
        held += section.n_samples * values * (4 + points)  # drawn as float32, kept as uint8
    if stage in ("pairs", "fit"):
        held += pair_bytes(plan, dataset) * (max(1, section.compute.gpus) if stage == "fit" else 1)
    if stage in ("statistics", "score") and facts.real:
        held += (images + section.n_samples) * WIDTH * 8
    return BASE.get(stage, 2000) + PER_GPU * gpus(section, stage) + math.ceil(held / 1e6)


def pair_bytes(plan: Plan, dataset: str) -> int:
    """Bytes of the most pairs that a fit on a dataset learns from; each of its processes holds them all."""
    own = (pairs for teacher, pairs in plan.pairs if teacher.dataset == dataset)
    sizes = [p.n * (p.nfe + 1 if p.keep == PATHS else 1) * (1 if p.dtype == "uint8" else 4) for p in own]
    return max(sizes, default=0) * math.prod(DATASETS[dataset].shape)


def minutes(plan: Plan, dataset: str, stage: str, points: int = 1) -> int:
    """Wall-clock limit of a stage's job that handles so many points (entrant × NFE).

    Fits and points have limits of their own, by which the harness records what took too long; the cluster's is beyond
    them, so that it never comes first.
    """
    section, facts, limits = plan.section(dataset), DATASETS[dataset], plan.study.limits
    if stage in ("part", "sample", "gather"):
        own = limits.point_minutes * (points + 1)  # a solver that learns from the field does so first
    elif stage == "data":
        own = _images(section, dataset) / DECODED / 60
    elif stage in ("statistics", "score"):
        images = _images(section, dataset) if stage == "statistics" else points * section.n_samples
        own = images * facts.real / JUDGED[gpus(section, stage) > 0] / 60 + points
    else:
        own = limits.fit_minutes
    return MARGIN + math.ceil(own)


def _images(section: DatasetStudy, dataset: str) -> int:
    """Images of a real dataset that a study reads."""
    return (section.source and section.source.first) or DATASETS[dataset].count


def judged(plan: Plan, dataset: str, seed: int, model: str) -> int:
    """Points of a model that are scored in one job."""
    return sum(max(1, len(entrant.nfes)) for entrant in plan.entrants_of(dataset, seed, model))
