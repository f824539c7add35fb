"""A plan's jobs with the network calls that each takes.

A call is one network evaluation for one sample; a backward pass counts as two. A fit's calls are 3 × steps × batch
unless its method.py has `cost(params, budget, count) -> calls`, count being the training images; a solver that learns
from the field may have `cost(params, nfes) -> calls`. Networks beside a model's own (encoders, discriminators) are
not counted, nor is what changes a model's network a little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from fewstep import registry
from fewstep.costs.disk import images_of
from fewstep.costs.judging import block_seconds, features_of, resize_seconds
from fewstep.costs.machines import Machine
from fewstep.costs.networks import Size, size_of
from fewstep.facts import DATASETS
from fewstep.pairset import PairSet
from fewstep.plan import OWN, Entrant, Fitted, Plan
from fewstep.registry import Method

BACKWARD = 2  # a backward pass, in calls
ADAPTIVE = 127  # calls that an adaptive solver takes at most: RK45 with tolerance 1e-5 on CIFAR-10 (arXiv 2209.03003)
LEARNING = 20_000  # calls of a solver that learns from the field and doesn't say how many it takes
FIGURES = 25  # seconds for a dataset's pictures, tables and its part of the page
CONVERGED = 4 * 48 + 1  # calls of a model's converged solution: 48 steps of a rule with four stages, and the end


@dataclass(frozen=True)
class Work:
    """One job.

    calls: of single samples
    batches: the same, as the device is asked for them
    half: whether its matrix products have 16 bits
    flops: beside the network's, as of feature networks
    seconds: on any machine, as of metrics on the CPU
    """

    stage: str
    dataset: str
    name: str
    calls: float = 0.0
    batches: float = 0.0
    size: Size = field(default_factory=Size)
    half: bool = False
    flops: float = 0.0
    seconds: float = 0.0

    @property
    def total_flops(self) -> float:
        return self.calls * self.size.flops + self.flops

    def on(self, machine: Machine) -> float:
        """Seconds on one device."""
        operations = self.batches * self.size.operations
        return machine.start + machine.seconds(self.total_flops, operations, self.half) + self.seconds


def work(plan: Plan) -> list[Work]:
    """All jobs of a plan in the DAG's order, with the network's size as torch counts it."""
    found: list[Work] = []
    for dataset in plan.study.datasets:
        size = size_of(plan.section(dataset), dataset)
        found += [_fit(plan, fitted, size) for fitted in plan.fitted if fitted.dataset == dataset]
        found += [_pairs(plan, *owner, size) for owner in plan.pairs if owner[0].dataset == dataset]
        found += [_reference(plan, fitted, size) for fitted in plan.fitted if fitted.dataset == dataset]
        entrants = [entrant for entrant in plan.entrants if entrant.fitted.dataset == dataset]
        found += [_sample(plan, entrant, size) for entrant in entrants]
        found += list(_judged(plan, dataset, entrants))
    return found


def fit_calls(plan: Plan, fitted: Fitted) -> float:
    """Network calls of a training run; none where there is nothing to train."""
    section = plan.section(fitted.dataset)
    method = fitted.accelerator_method or registry.get(fitted.baseline, "baseline")
    if DATASETS[fitted.dataset].exact or (method.kind == "baseline" and fitted.baseline in section.pretrained):
        return 0.0
    budget = plan.budget(fitted)
    own = method.verb("cost")
    if own:
        return own(plan.params(fitted.dataset, method), budget, images_of(plan, fitted.dataset))
    return (1 + BACKWARD) * budget.steps * budget.batch


def _fit(plan: Plan, fitted: Fitted, size: Size) -> Work:
    section, budget, calls = plan.section(fitted.dataset), plan.budget(fitted), fit_calls(plan, fitted)
    rows = min(budget.batch, section.compute.microbatch or budget.batch)
    stage = "fit" if fitted.accelerator_method else "train"
    return Work(stage, fitted.dataset, fitted.model, calls, calls / rows, size, section.compute.precision == "bf16")


def _pairs(plan: Plan, teacher: Fitted, pairs: PairSet, size: Size) -> Work:
    from fewstep.pairs import SHARD

    nfe = _taken(registry.get(pairs.solver, "solver"), pairs.nfe)
    name = f"{teacher.model}/{pairs.name}"
    return Work("pairs", teacher.dataset, name, pairs.n * nfe, math.ceil(pairs.n / SHARD) * nfe, size)


def _reference(plan: Plan, fitted: Fitted, size: Size) -> Work:
    section = plan.section(fitted.dataset)
    nfe = section.curvature_steps + CONVERGED
    return Work("reference", fitted.dataset, fitted.model, section.probes * nfe, nfe, size)


def _sample(plan: Plan, entrant: Entrant, size: Size) -> Work:
    dataset, section = entrant.fitted.dataset, plan.section(entrant.fitted.dataset)
    if entrant.control:
        return Work("sample", dataset, entrant.name)
    method = entrant.fitted.accelerator_method if entrant.solver == OWN else registry.get(entrant.solver, "solver")
    nfe = sum(_taken(method, nfe) for nfe in entrant.nfes)
    learning = learning_calls(plan, entrant, method)
    calls, batches = section.n_samples * nfe, math.ceil(section.n_samples / section.batch) * nfe
    return Work("sample", dataset, entrant.name, calls + learning, batches + learning / section.batch, size)


def learning_calls(plan: Plan, entrant: Entrant, method: Method) -> float:
    """Network calls by which a solver learns from the field before it samples."""
    if method.kind != "solver" or not method.learns:
        return 0.0
    own = method.verb("cost")
    return own(plan.params(entrant.fitted.dataset, method), entrant.nfes) if own else LEARNING


def _taken(method: Method, nfe: int) -> int:
    return min(nfe, ADAPTIVE) if method.nfe and method.nfe.adaptive else nfe


def _judged(plan: Plan, dataset: str, entrants: list[Entrant]) -> Iterator[Work]:
    section, facts, extractors = plan.section(dataset), DATASETS[dataset], list(plan.extractors(dataset))
    points: dict[tuple[str, int], int] = {}
    for entrant in entrants:
        key = (entrant.model, entrant.fitted.seed)
        points[key] = points.get(key, 0) + len(entrant.nfes)
    references, size = images_of(plan, dataset), section.block_size
    each = block_seconds(facts, size, references, extractors, section.metrics)
    for (model, _), count in points.items():
        blocks = count * section.blocks
        yield Work("score", dataset, model, flops=features_of(extractors) * blocks * size, seconds=blocks * each)
    if facts.family == "image":
        seconds = references * resize_seconds(extractors)
        yield Work(
            "statistics", dataset, ", ".join(extractors), flops=features_of(extractors) * references, seconds=seconds
        )
    yield Work("figures", dataset, "", seconds=FIGURES)
