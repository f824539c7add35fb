"""What each job depends on besides its input files: a key of its code and settings, by which Snakemake reruns it.

A changed value reruns exactly the jobs that read it. Nothing heavy is imported here, as in `fewstep.plan`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep import registry
from fewstep.codehash import code_hash, stage_hash
from fewstep.files import digest
from fewstep.layout import Layout
from fewstep.pairset import PairSet
from fewstep.plan import NONE, OWN, Entrant, Fitted, Plan
from fewstep.pretrained import content
from fewstep.registry import Method


def statistics_code(extractor: str) -> str:
    """Hash of the code that makes reference statistics, the network's among it; judges find it by its name."""
    return digest([code_hash("evaluation.stages.statistics"), stage_hash(f"evaluation.extractors.{extractor}")])


def _solvers_named(params: dict[str, Any]) -> list[Method]:
    """A method that runs a solver, e.g. to draw pairs or as its teacher, names it among its parameters."""
    solvers = registry.of_kind("solver")
    return [solvers[value] for value in params.values() if isinstance(value, str) and value in solvers]


@dataclass(frozen=True)
class Keys:
    """The keys of a plan's jobs, a short hash each."""

    plan: Plan

    def fit(self, fitted: Fitted) -> str:
        """Code and settings behind a fitted model."""
        plan, section = self.plan, self.plan.section(fitted.dataset)
        accelerated = fitted.accelerator != NONE
        kind = "accelerator" if accelerated else "baseline"
        method = registry.get(getattr(fitted, kind), kind)
        settings = plan.budget(fitted).model_dump(exclude={"checkpoint_seconds"})
        params = plan.params(fitted.dataset, method)
        used = _solvers_named(params)
        if accelerated and method.budget == "train":  # by its baseline's loss
            baseline = registry.get(fitted.baseline, "baseline")
            used, params = [*used, baseline], {**params, "baseline": plan.params(fitted.dataset, baseline)}
        if not accelerated and fitted.baseline in section.pretrained:  # nothing is trained; its loss is measured
            settings = {"batch": settings["batch"]}
        values = [fitted.__dict__, self._net(fitted), settings, params, *self._data(fitted.dataset)]
        values += [plan.params(fitted.dataset, other) for other in used]
        return digest([code_hash("fewstep.stages.fit", method, *used), *values])

    def pairs(self, teacher: Fitted, pairs: PairSet) -> str:
        """Code and settings behind a model's pairs."""
        solver = registry.get(pairs.solver, "solver")
        settings = [teacher.__dict__, pairs.series, self.plan.params(teacher.dataset, solver)]
        return digest([code_hash("fewstep.stages.pairs", solver), *settings])

    def reference(self, fitted: Fitted) -> str:
        """Code and settings behind a model's converged ODE solution and curvature."""
        section = self.plan.section(fitted.dataset)
        code = code_hash("evaluation.stages.reference", fitted.accelerator_method)
        return digest([code, section.probes, section.curvature_steps])

    def sample(self, entrant: Entrant) -> str:
        """Code and settings behind an entrant's samples."""
        plan, fitted = self.plan, entrant.fitted
        section = plan.section(fitted.dataset)
        kind = "control" if entrant.control else "solver"
        accelerator = fitted.accelerator_method
        solver = accelerator if entrant.solver == OWN else registry.get(entrant.solver, kind)
        params = plan.params(fitted.dataset, solver)
        used = _solvers_named(params)
        values = [entrant.nfes, section.blocks, section.block_size, section.batch, section.probes]
        values += self._data(fitted.dataset)
        if (taken := plan.learnt_on(entrant)) != fitted:
            values += [taken.__dict__, plan.params(taken.dataset, solver)]
        # A solver inside another runs with its own method.yaml's parameters, so its code alone counts.
        return digest([code_hash("fewstep.stages.sample", solver, accelerator, *used), *values, params])

    def _net(self, fitted: Fitted) -> Any:
        """The study's network, or the content of the checkpoint that has the baseline's."""
        section = self.plan.section(fitted.dataset)
        weights = section.pretrained.get(fitted.baseline)
        if weights is None:
            return section.net.model_dump()
        layout = Layout(Path(self.plan.study.results))
        return content(weights.path, weights.sha256, layout.model(fitted.dataset, fitted.seed, fitted.baseline))

    def _data(self, dataset: str) -> list[Any]:
        """How many images of a real dataset are taken, and in what forms training sees images; nothing by default.

        Which files they come from is a matter of the `data` step: when they change, it runs, and all that follows.
        """
        section = self.plan.section(dataset)
        first = section.source.first if section.source else None
        return [first, section.flip, section.augment] if first or section.flip or section.augment else []

    def statistics(self, dataset: str, extractor: str) -> str:
        """Code and settings behind a dataset's reference statistics."""
        return digest([self._extractor(dataset, extractor), self.plan.section(dataset).metrics])

    def score(self, dataset: str, seed: int, model: str) -> str:
        """Code and settings behind a model's scores."""
        plan, section = self.plan, self.plan.section(dataset)
        solvers = [entrant.solver for entrant in plan.entrants_of(dataset, seed, model)]
        extractors = {name: self._extractor(dataset, name) for name in plan.extractors(dataset)}
        judged = [section.blocks, section.block_size, extractors, section.metrics, plan.primary(dataset)]
        return digest([code_hash("evaluation.stages.score"), solvers, *judged])

    def _extractor(self, dataset: str, name: str) -> list[Any]:
        """A feature network's code, settings and, where it has one, the content of its file of reference statistics."""
        chosen = self.plan.extractors(dataset)[name]
        return [statistics_code(name), chosen.model_dump(), self._references.get(chosen.reference, "")]

    @cached_property
    def _references(self) -> dict[str, str]:
        """SHA-256 of every file of reference statistics that the study names: they are large, and many jobs ask."""
        sections = self.plan.study.datasets.values()
        named = {extractor.reference for section in sections for extractor in (section.extractors or {}).values()}
        files = {name: Path(name) for name in named if name and Path(name).is_file()}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
