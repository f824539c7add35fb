"""How much memory a plan's largest jobs take, roughly."""

from __future__ import annotations

import math

from fewstep.costs.networks import size_of
from fewstep.demands import pair_bytes
from fewstep.facts import DATASETS
from fewstep.plan import Fitted, Plan

LIBRARIES = 2e9  # of a process with torch
TRAINED = 20  # bytes a weight: itself, its gradient, Adam's two moments, its average; float32


def rows_at_once(plan: Plan, fitted: Fitted) -> int:
    """Samples of a training batch that one device sees at once."""
    compute, batch = plan.section(fitted.dataset).compute, plan.budget(fitted).batch
    return min(math.ceil(batch / max(1, compute.gpus)), compute.microbatch or batch)


def on_device(plan: Plan, fitted: Fitted) -> float:
    """Bytes of a training: what belongs to the weights, and every operation's output kept for the backward pass."""
    section = plan.section(fitted.dataset)
    size = size_of(section, fitted.dataset)
    each = 2 if section.compute.precision == "bf16" and section.compute.gpus else 4
    return TRAINED * size.parameters + each * size.outputs * rows_at_once(plan, fitted)


def on_host(plan: Plan, dataset: str) -> float:
    """Bytes of a dataset's largest job in the machine's memory: pairs that a fit reads, or samples being drawn."""
    values, section = math.prod(DATASETS[dataset].shape), plan.section(dataset)
    pairs = pair_bytes(plan, dataset) * max(1, section.compute.gpus)
    return LIBRARIES + max(4 * values * section.n_samples, pairs)
