"""What the Snakefile asks: files, keys and environments of each job, by Snakemake's wildcards."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from fewstep import demands, preflight, registry
from fewstep.codehash import stage_hash
from fewstep.config import make_study
from fewstep.data.identity import identity
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.files import digest
from fewstep.keys import Keys
from fewstep.layout import CONTROL, Layout
from fewstep.pairset import PairSet
from fewstep.pictures import pictures
from fewstep.plan import NONE, OWN, Entrant, Fitted, Plan

PATTERN = "{dataset}", "{seed}", "{model}"


class Dag:
    """A study's plan as Snakemake sees it. Methods named `…_key` feed `params`: a changed value reruns the job."""

    def __init__(self, config: dict[str, Any]):
        self.plan = Plan(make_study(config))
        self.keys = Keys(self.plan)
        self.layout = Layout(Path(self.plan.study.results))
        self.datasets = list(self.plan.study.datasets)

    def constraints(self) -> dict[str, str]:
        """Regular expressions of the wildcards, from the plan's own names."""
        one_of = lambda names: "|".join(sorted(map(re.escape, set(names)))) or "none"  # noqa: E731
        return {
            "dataset": one_of(self.datasets),
            "seed": r"-?\d+",
            "baseline": one_of(f.baseline for f in self.plan.fitted),
            "accelerator": one_of(f.accelerator for f in self.plan.fitted if f.accelerator != NONE),
            "model": one_of([*(f.model for f in self.plan.fitted), CONTROL]),
            "solver": one_of(e.solver for e in self.plan.entrants),
            "part": r"\d+of\d+",
            "pairs": one_of(pairs.name for _, pairs in self.plan.pairs),
            "extractor": one_of(name for dataset in self.datasets for name in self.plan.extractors(dataset)),
        }

    # files

    def scores(self, dataset: str | None = None) -> list[Path]:
        """Score folders of all models, or of one dataset's."""
        entrants = (e for e in self.plan.entrants if dataset in (None, e.fitted.dataset))
        return list(dict.fromkeys(self.layout.scores(e.fitted.dataset, e.fitted.seed, e.model) for e in entrants))

    def references(self, dataset: str | None = None) -> list[Path]:
        """Reference files of all fitted models, or of one dataset's."""
        fitted = (f for f in self.plan.fitted if dataset in (None, f.dataset))
        return [self.layout.reference(f.dataset, f.seed, f.model) for f in fitted]

    def sampled_from(self, w) -> list[Path]:
        """What sampling needs: the fitted model and the one that the solver is fitted on; a control's real dataset."""
        entrant = self.entrant(w)
        if entrant.control:
            return [self.layout.data(w.dataset)] * DATASETS[w.dataset].real
        return [self.layout.model(f.dataset, f.seed, f.model) for f in self.plan.sampled_from(entrant)]

    def parts(self, w) -> list[Path]:
        """The parts of an entrant's samples that jobs of their own draw; none where one job draws all."""
        at = (w.dataset, w.seed, w.model, w.solver)
        return [self.layout.part(*at, part) for part in self.plan.parts(self.entrant(w))]

    def fitted_from(self, w) -> list[Path]:
        """What fitting an accelerator needs: its baseline, the fit that it builds on, and its teacher's pairs."""
        fitted = self.fitted(w)
        models = [self.layout.model(f.dataset, f.seed, f.model) for f in fitted.upstream]
        return models + self.plan.pair_files(self.layout, fitted)

    def scored_from(self, w) -> list[Path]:
        """What scoring a model needs: its entrants' samples, the reference statistics, and its converged solution."""
        entrants = self.plan.entrants_of(w.dataset, int(w.seed), w.model)
        samples = [self.layout.samples(w.dataset, w.seed, w.model, entrant.solver) for entrant in entrants]
        reference = [self.layout.reference(w.dataset, w.seed, w.model, ".safetensors")] * (w.model != CONTROL)
        return samples + reference + [self.layout.statistics(w.dataset, e) for e in self.plan.extractors(w.dataset)]

    def figures(self, dataset: str) -> list[Path]:
        """The pictures of a dataset that a report shows."""
        return pictures(self.plan, self.layout, dataset)

    # keys

    def fitted(self, w) -> Fitted:
        """The model that a job's wildcards name."""
        model = w.model if hasattr(w, "model") else self.model(w)
        return Fitted.named(w.dataset, int(w.seed), model)

    @staticmethod
    def model(w) -> str:
        """`baseline` or `baseline+accelerator`."""
        return f"{w.baseline}+{w.accelerator}" if hasattr(w, "accelerator") else w.baseline

    def entrant(self, w) -> Entrant:
        """The entrant that a job's wildcards name."""
        return self.plan.entrant(w.dataset, int(w.seed), w.model, w.solver)

    def fit_key(self, w) -> str:
        return self.keys.fit(self.fitted(w))

    def pairs_key(self, w) -> str:
        return self.keys.pairs(self.fitted(w), PairSet.named(w.pairs))

    def reference_key(self, w) -> str:
        return self.keys.reference(self.fitted(w))

    def sample_key(self, w) -> str:
        return self.keys.sample(self.entrant(w))

    def part_key(self, w) -> str:
        """Of a part as of all: how many there are doesn't matter to an image."""
        return self.keys.sample(self.entrant(w))

    def score_key(self, w) -> str:
        return self.keys.score(w.dataset, int(w.seed), w.model)

    def statistics_key(self, w) -> str:
        return self.keys.statistics(w.dataset, w.extractor)

    @cache  # noqa: B019  one Dag a run
    def _data_key(self, dataset: str) -> str:
        real = DATASETS[dataset].real
        code = stage_hash("fewstep.data.prepare" if real else "fewstep.data")[:16]
        return digest([code, identity(self.plan.section(dataset).source, self.layout.data(dataset))]) if real else code

    def data_key(self, w) -> str:
        return self._data_key(w.dataset)

    @cache  # noqa: B019  one Dag a run
    def summary_key(self, module: str, dataset: str | None = None) -> str:
        """Code of a summary with the points that it shows."""
        return digest([stage_hash(module), [p for p in self.plan.points if dataset in (None, p["dataset"])]])

    # resources

    def resources(self, stage: str) -> dict[str, Callable | int]:
        """What the jobs of a stage ask a cluster for, as functions of the wildcards."""
        section = lambda w: self.plan.section(w.dataset)  # noqa: E731
        # where parts are drawn by jobs of their own, what is left to do is to put them together
        at = lambda w: "gather" if stage == "sample" and self.parts(w) else stage  # noqa: E731
        several = any(demands.gpus(section, stage) > 1 for section in self.plan.study.datasets.values())
        one = {"nodes": 1} if several else {}  # a job's GPUs are in one machine
        return one | {
            "gpu": lambda w: demands.gpus(section(w), at(w)),
            "cpus_per_task": lambda w: demands.cpus(section(w), at(w)),
            "mem_mb": lambda w: demands.megabytes(self.plan, w.dataset, at(w)),
            "runtime": lambda w: demands.minutes(self.plan, w.dataset, at(w), self._points(w, stage)),
        }

    def _points(self, w, stage: str) -> int:
        """Points (entrant × NFE) that a job draws or judges."""
        if stage == "score":
            return demands.judged(self.plan, w.dataset, int(w.seed), w.model)
        return len(self.entrant(w).nfes) if hasattr(w, "solver") else 1

    # environments

    def environment(self, *ids: str) -> str:
        """The conda environment of the first of these methods that has its own, else the shared one."""
        known = registry.discover()
        own = [known[id].folder / known[id].card.env for id in ids if id in known and known[id].card.env]
        return str(own[0] if own else registry.ROOT / "envs" / "fewstep.yaml")

    def sampling_environment(self, w) -> str:
        """An accelerator's environment goes before its solver's."""
        names: Iterable[str] = w.model.split("+") if w.model != CONTROL else ()
        return self.environment(*reversed(list(names)), *([w.solver] if w.solver != OWN else []))


def make_dag(config: dict[str, Any], check: Callable[[Plan], None] = lambda plan: None, *, first: bool = True) -> Dag:
    """The DAG of a study; bad input, also by the judges' `check`, ends the program with one line.

    On a cluster every job reads the Snakefile again. Only the `first` reading checks all that the study needs: later
    ones would take long, and would find the disk filled by the run itself.
    """
    try:
        dag = Dag(config)
        if not first:
            return dag
        check(dag.plan)
        preflight.check(dag.plan, dag.layout)
        for fitted in dag.plan.fitted:
            dag.keys.fit(fitted)  # a wrong parameter is found before anything starts
        for entrant in dag.plan.entrants:
            dag.keys.sample(entrant)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    return dag
