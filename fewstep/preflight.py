"""What can be known to go wrong is found before work starts: absent files, wrong checkpoints, a disk that is too small.

A study without real datasets costs nothing here. Of one with them, files are opened and a checkpoint is read; nothing
is decoded, no network is reached, and no GPU is used.
"""

from __future__ import annotations

import os

from fewstep import registry
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.layout import Layout
from fewstep.plan import Plan

SKIP_DISK = "FEWSTEP_SKIP_DISK_CHECK"  # 1: start although the disk looks too small


def check(plan: Plan, layout: Layout) -> None:
    """Raises UserError, in one line that says what to do, for the first thing that would stop the study."""
    for dataset, section in plan.study.datasets.items():
        if DATASETS[dataset].real or section.source is not None:
            _files(plan, layout, dataset)
        if section.pretrained:
            _checkpoints(plan, layout, dataset)
    if any(DATASETS[dataset].real for dataset in plan.study.datasets) and os.environ.get(SKIP_DISK) != "1":
        _disk(plan, layout)


def _files(plan: Plan, layout: Layout, dataset: str) -> None:
    """A real dataset has a source, and its files are as the source says, unless just these are prepared already."""
    from fewstep.data import sources
    from fewstep.data.identity import is_prepared

    source = sources.given(plan.section(dataset).source, dataset)
    if not is_prepared(source, layout.data(dataset)):
        sources.inspect(source, dataset)


def _checkpoints(plan: Plan, layout: Layout, dataset: str) -> None:
    """Each checkpoint is there and fits, unless the model was made from just this one already."""
    from fewstep import pretrained

    facts, section = DATASETS[dataset], plan.section(dataset)
    for name, weights in section.pretrained.items():
        models = [layout.model(dataset, seed, name) for seed in section.train_seeds]
        if not all(pretrained.is_made_from(model, weights.path, weights.sha256) for model in models):
            path = registry.get(name, "baseline").card.path
            pretrained.inspect(weights.path, weights.sha256, path, facts.shape, facts.classes)


def _disk(plan: Plan, layout: Layout) -> None:
    """The disk has room for what the plan has yet to write."""
    try:
        from fewstep.costs import disk
        from fewstep.costs.report import gigabytes

        needed = disk.still_needed(plan, layout)
    except ImportError:  # Snakemake in an environment without torch, by which networks are measured
        return
    free = disk.free(layout.root)
    if needed > free:
        raise UserError(
            f"study {plan.study.study} will write about {gigabytes(needed)} more, and {gigabytes(free)} are free at "
            f"{layout.root}/: free some, choose another folder with --config results=FOLDER, or set {SKIP_DISK}=1"
        )
