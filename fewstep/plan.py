"""From a study to its jobs: which models are fitted, which entrants are sampled at which NFE.

Nothing heavy is imported here: the Snakefile builds the DAG from this, and `python -m fewstep plan` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fewstep import budgets, registry
from fewstep.config import DatasetStudy, Extractor, Names, Study, Training
from fewstep.errors import UserError
from fewstep.facts import DATASETS, SECOND_BACKEND
from fewstep.layout import CONTROL, Layout
from fewstep.pairset import PARAMS as PAIR_PARAMS
from fewstep.pairset import PairSet
from fewstep.registry import Method
from fewstep.suggest import unknown

NONE, OWN, OTHERS = "none", "own", "others"
TAKEN_FROM = "taken_from"  # a solver's parameter: the dataset on whose model it is fitted, where not on the sampled one


@dataclass(frozen=True)
class Fitted:
    """A trained baseline, or an accelerator fitted on one, for one training seed."""

    dataset: str
    seed: int
    baseline: str
    accelerator: str = NONE

    @property
    def model(self) -> str:
        """`baseline` or `baseline+accelerator`, the name in paths and tables."""
        return self.baseline if self.accelerator == NONE else f"{self.baseline}+{self.accelerator}"

    @property
    def accelerator_method(self) -> Method | None:
        """What was fitted on the baseline, if anything."""
        return None if self.accelerator == NONE else registry.get(self.accelerator, "accelerator")

    @property
    def upstream(self) -> list[Fitted]:
        """The fitted models that this one's fit needs: its baseline, and the fit that it builds on."""
        if self.accelerator == NONE:
            return []
        builds_on = self.accelerator_method.builds_on
        parents = [replace(self, accelerator=builds_on)] if builds_on else []
        return [replace(self, accelerator=NONE), *parents]

    @classmethod
    def named(cls, dataset: str, seed: int, model: str) -> Fitted:
        """The inverse of `model`."""
        baseline, _, accelerator = model.partition("+")
        return cls(dataset, seed, baseline, accelerator or NONE)


@dataclass(frozen=True)
class Entrant:
    """A fitted model with a solver at every NFE, or a control (solver = its name, NFE 0)."""

    fitted: Fitted
    solver: str
    nfes: tuple[int, ...]
    control: bool = False

    @property
    def name(self) -> str:
        """`rf+reflow/heun`; a control is called by its name alone."""
        return self.solver if self.control else f"{self.model}/{self.solver}"

    @property
    def model(self) -> str:
        return CONTROL if self.control else self.fitted.model

    @property
    def label(self) -> str:
        """For tables and figures."""
        if self.control:
            return registry.get(self.solver, "control").label
        parts = [registry.get(self.fitted.baseline, "baseline").label]
        if self.fitted.accelerator != NONE:
            parts.append(registry.get(self.fitted.accelerator, "accelerator").label)
        solver = "" if self.solver == OWN else f", {registry.get(self.solver, 'solver').label}"
        return " + ".join(parts) + solver


def _supports(method: Method, baseline: str) -> bool:
    """Whether a method's card lists the baseline, by its id or without its preset."""
    allowed = method.card.supports.baselines
    return allowed == "all" or bool({baseline, baseline.partition("-")[0]} & set(allowed))


class Plan:
    """All jobs of a study."""

    def __init__(self, study: Study):
        self.study = study
        for name, section in study.datasets.items():
            self._check_parameters(name, section)
            self.extractors(name)
            self._check_pretrained(name, section)
        self.fitted = [fitted for name in study.datasets for fitted in self._fitted(name)]
        self.entrants = [entrant for name in study.datasets for entrant in self._entrants(name)]
        for entrant in self.entrants:
            self._check_taken(entrant)
        for name in study.datasets:
            self._check_nfe_of(name)

    def section(self, dataset: str) -> DatasetStudy:
        """The study's section for a dataset; UserError when it has none."""
        if dataset not in self.study.datasets:
            raise UserError(f"study {self.study.study}: {unknown('dataset', dataset, self.study.datasets)}")
        return self.study.datasets[dataset]

    def extractors(self, dataset: str) -> dict[str, Extractor]:
        """The feature networks that judge a dataset, second backends among them; UserError where it holds vectors."""
        facts, chosen = DATASETS[dataset], self.section(dataset).extractors
        if chosen and facts.family != "image":
            raise UserError(f"config: datasets.{dataset}.extractors: they judge images, and {dataset} holds vectors")
        if chosen is None:
            return {name: Extractor() for name in facts.extractors}
        # Moments that somebody published are of one library's features; the other's would be set against another set.
        pairs = [(chosen[first], second) for first, second in SECOND_BACKEND.items() if first in chosen]
        both = {second: Extractor(weights=own.weights) for own, second in pairs if not own.reference}
        return both | chosen

    def primary(self, dataset: str) -> str:
        """The metric that ranks."""
        return self.section(dataset).primary or DATASETS[dataset].primary

    @staticmethod
    def _check_parameters(dataset: str, section: DatasetStudy) -> None:
        """A mistyped method or parameter under `methods` is found before anything starts."""
        known = registry.discover()
        budgets.check_names(dataset, section)
        for name, parameters in section.methods.items():
            if name not in known:
                raise UserError(f"config: datasets.{dataset}.methods: {unknown('method', name, known)}")
            known[name].params(dataset, parameters)
        if (section.flip or section.augment) and DATASETS[dataset].family != "image":
            raise UserError(f"config: datasets.{dataset}: flip and augment are for images, and {dataset} holds vectors")

    def _check_pretrained(self, dataset: str, section: DatasetStudy) -> None:
        """What is read from a checkpoint is a baseline of the study, has weights, and stands for one training."""
        at = f"config: datasets.{dataset}.pretrained"
        baselines = [method.id for method in self._chosen(dataset, "baseline")] if section.pretrained else []
        for id in section.pretrained:
            if id not in baselines:
                raise UserError(f"{at}: {unknown('baseline of the study', id, baselines)}")
            if DATASETS[dataset].exact:
                raise UserError(f"{at}: {id} has an exact field on {dataset} and needs no weights; leave it out")
            if len(section.train_seeds) > 1:
                raise UserError(f"{at}: a checkpoint is one training; give one of train_seeds {section.train_seeds}")

    def _chosen(self, dataset: str, kind: str, names: Names | None = None) -> list[Method]:
        """The methods of a kind that a section names; `all` leaves out what can't run on the dataset."""
        names = getattr(self.section(dataset), kind + "s") if names is None else names
        wanted = registry.entered(kind) if names == "all" else [name.rpartition("+")[2] for name in names]
        methods = [registry.get(name, kind) for name in dict.fromkeys(wanted)]
        usable = [method for method in methods if self._suits(method, dataset)]
        if names != "all" and (unfit := [method.id for method in methods if method not in usable]):
            raise UserError(f"config: datasets.{dataset}: {', '.join(unfit)} can't run on this dataset; leave it out")
        return usable

    @staticmethod
    def _suits(method: Method, dataset: str) -> bool:
        facts = DATASETS[dataset]
        if method.kind == "control" or method.stochastic:
            return facts.primary != "ode_rmse"  # a control, or what adds noise, has no ODE to be near
        if facts.exact and method.kind in ("baseline", "accelerator"):
            return method.kind == "baseline" and method.exact  # an exact field needs no training and no fit
        if facts.classes and not method.conditional:
            return False
        return method.data in ("any", facts.family)

    def _fitted(self, dataset: str) -> list[Fitted]:
        section = self.section(dataset)
        baselines = self._chosen(dataset, "baseline")
        accelerators = self._chosen(dataset, "accelerator")
        if section.accelerators == "all":  # of which some are made for an NFE that isn't asked for
            accelerators = [a for a in accelerators if a.nfe is None or self._nfes(section, a, explicit=False)]
        jobs = []
        for seed in [section.train_seeds[0]] if DATASETS[dataset].exact else section.train_seeds:
            jobs += [Fitted(dataset, seed, baseline.id) for baseline in baselines]
            jobs += [Fitted(dataset, seed, b, a.id) for a in accelerators for b in self._bases(dataset, a, baselines)]
        for job in jobs:
            self._check_upstream(job, jobs)
            self.pair_set(job)
        return jobs

    def _check_upstream(self, job: Fitted, jobs: list[Fitted]) -> None:
        """What an accelerator is fitted on is there, and says the same as its own parameters."""
        at, own = f"config: datasets.{job.dataset}", job.accelerator_method
        if missing := [f.model for f in job.upstream if f not in jobs]:
            raise UserError(f"{at}: {job.model} builds on {missing[0]}; enter that too")
        if own and own.builds_on:
            parent = registry.get(own.builds_on, "accelerator")
            mine, theirs = (self.params(job.dataset, method) for method in (own, parent))
            free = {*own.form.params, *(PAIR_PARAMS if own.card.teacher else ())}  # each round draws pairs of its own
            differ = sorted(k for k in mine if mine[k] != theirs[k] and k not in free)
            if differ:
                raise UserError(f"{at}.methods: {own.id} uses the fit of {parent.id}; set {differ[0]} there")

    def _bases(self, dataset: str, accelerator: Method, baselines: list[Method]) -> list[str]:
        """The study's baselines that an accelerator is fitted on; `rf+reflow` in a study names one."""
        names = self.section(dataset).accelerators
        allowed, card = accelerator.card.supports.baselines, accelerator.card
        supported = [b.id for b in baselines if _supports(accelerator, b.id)]
        if names == "all":
            return [b for b in supported if card.enter_on is None or b in card.enter_on]
        named = [
            base for base, plus, name in (name.rpartition("+") for name in names) if plus and name == accelerator.id
        ]
        bases = named or supported
        if not bases or set(bases) - set(supported):
            raise UserError(
                f"config: datasets.{dataset}: {accelerator.id} needs a baseline of the study among "
                f"{'all' if allowed == 'all' else ', '.join(allowed)}; got {', '.join(bases) or 'none'}"
            )
        return bases

    def _solvers_of(self, dataset: str, model: str) -> tuple[Names, list[Method]]:
        """What the study names for a model, and the solvers that this stands for."""
        wanted = self.section(dataset).solvers
        names = wanted.get(model, wanted.get(OTHERS, [])) if isinstance(wanted, dict) else wanted
        return names, self._chosen(dataset, "solver", names)

    def _check_solvers(self, dataset: str) -> None:
        """A mistyped model among the keys of `solvers` is found."""
        wanted = self.section(dataset).solvers
        models = [fitted.model for fitted in self.fitted if fitted.dataset == dataset]
        for names in wanted.values() if isinstance(wanted, dict) else ():
            self._chosen(dataset, "solver", names)
        for model in wanted if isinstance(wanted, dict) else ():
            if model not in (*models, OTHERS):
                raise UserError(f"config: datasets.{dataset}.solvers: {unknown('model', model, [*models, OTHERS])}")

    def _entrants(self, dataset: str) -> list[Entrant]:
        section = self.section(dataset)
        self._check_solvers(dataset)
        entrants = []
        for fitted in (job for job in self.fitted if job.dataset == dataset):
            own = fitted.accelerator_method
            if own and own.solvers == OWN:
                entrants.append(Entrant(fitted, OWN, self._nfes(section, own, True, fitted.model)))
                continue
            wanted = own.solvers if own else "all"
            names, solvers = self._solvers_of(dataset, fitted.model)
            before = len(entrants)
            for solver in solvers:
                if _supports(solver, fitted.baseline) and (
                    wanted == "all" or {solver.id, solver.card.name} & set(wanted)
                ):
                    nfes = self._nfes(section, solver, names != "all", fitted.model)
                    if own and own.nfe:  # a model that is made for some NFE
                        nfes = tuple(nfe for nfe in nfes if own.nfe.allows(nfe))
                        if not nfes:
                            self._nfes(section, own, explicit=True)  # says so where the study has none of them
                    entrants += [Entrant(fitted, solver.id, nfes)] if nfes else []
            if wanted != "all" and section.accelerators != "all" and len(entrants) == before:
                can = f"is sampled with {', '.join(wanted)}; name one of them among its solvers"
                raise UserError(f"config: datasets.{dataset}: {fitted.model} {can}")
        nothing = Fitted(dataset, section.train_seeds[0], NONE)
        entrants += [Entrant(nothing, c.id, (0,), control=True) for c in self._chosen(dataset, "control")]
        return entrants

    @staticmethod
    def _nfes(section: DatasetStudy, method: Method, explicit: bool, model: str = "") -> tuple[int, ...]:
        own = section.nfe_of.get(method.id, section.nfe)
        asked = section.nfe_of.get(f"{model}/{OWN if method.kind == 'accelerator' else method.id}", own)
        nfes = tuple(nfe for nfe in asked if method.nfe.allows(nfe))
        if explicit and not nfes:
            raise UserError(f"config: {method.id} makes NFE {method.nfe.describe()}; none is in nfe: {asked}")
        return nfes

    def _check_nfe_of(self, dataset: str) -> None:
        """What `nfe_of` names is an entrant of the dataset, or the sampler of one."""
        own = [entrant for entrant in self.entrants if entrant.fitted.dataset == dataset and not entrant.control]
        known = {n for e in own for n in (e.name, e.fitted.accelerator if e.solver == OWN else e.solver)}
        for name in self.section(dataset).nfe_of.keys() - known:
            raise UserError(f"config: datasets.{dataset}.nfe_of: {unknown('entrant or sampler', name, known)}")

    def _check_taken(self, entrant: Entrant) -> None:
        """A solver's required parameters are set, and the study has the model that it is fitted on."""
        own, id = entrant.fitted, entrant.solver
        if entrant.control or id == OWN:
            return
        method, at = registry.get(id, "solver"), f"config: datasets.{own.dataset}.methods"
        there = [f.dataset for f in self.fitted if replace(f, dataset=own.dataset) == own and f != own]
        for key in method.required:
            if self.params(own.dataset, method)[key] in ("", None):
                value = next(iter(there), "DATASET") if key == TAKEN_FROM else "…"
                raise UserError(f"{at}: {id} needs {key}; write `methods: {{{id}: {{{key}: {value}}}}}`")
        source = self.learnt_on(entrant).dataset
        if source not in (there if TAKEN_FROM in method.required else [*there, own.dataset]):
            known = f"{own.model} (seed {own.seed}) of {', '.join(there)}" if there else "no other dataset's"
            raise UserError(f"{at}: {id} can't take its fit from {source}; the study has {known}")

    @cached_property
    def points(self) -> list[dict[str, Any]]:
        """Every planned point, one a (entrant, training seed, NFE)."""
        return [
            {
                "dataset": entrant.fitted.dataset,
                "entrant": entrant.name,
                "label": entrant.label,
                "kind": "control" if entrant.control else "entrant",
                "baseline": entrant.fitted.baseline,
                "accelerator": entrant.fitted.accelerator,
                "solver": entrant.solver,
                "train_seed": entrant.fitted.seed,
                "nfe": nfe,
            }
            for entrant in self.entrants
            for nfe in entrant.nfes
        ]

    def entrant(self, dataset: str, seed: int, model: str, solver: str) -> Entrant:
        """The planned entrant at these coordinates; UserError when there is none."""
        for entrant in self.entrants:
            f = entrant.fitted
            if (f.dataset, f.seed, entrant.model, entrant.solver) == (dataset, seed, model, solver):
                return entrant
        known = sorted({entrant.name for entrant in self.entrants if entrant.fitted.dataset == dataset})
        raise UserError(f"{model}/{solver} on {dataset} (seed {seed}) is not planned; there are: {', '.join(known)}")

    def entrants_of(self, dataset: str, seed: int, model: str) -> list[Entrant]:
        """The entrants that sample a model; UserError when there is none."""
        found = [e for e in self.entrants if (e.fitted.dataset, e.fitted.seed, e.model) == (dataset, seed, model)]
        if not found:
            self.section(dataset)
            seeds = sorted({e.fitted.seed for e in self.entrants if (e.fitted.dataset, e.model) == (dataset, model)})
            if seeds:
                raise UserError(f"study {self.study.study}: {dataset}: no seed {seed}; there are {seeds}")
            known = sorted({entrant.model for entrant in self.entrants if entrant.fitted.dataset == dataset})
            raise UserError(f"study {self.study.study}: {dataset}, seed {seed}: {unknown('model', model, known)}")
        return found

    def params(self, dataset: str, method: Method) -> dict[str, Any]:
        """A method's parameters on a dataset: overrides by id, or by name, which leave what a preset sets.

        Raises UserError for a parameter that decides which NFE can be made: there are presets for that.
        """
        methods, preset = self.section(dataset).methods, method.form.params if method.form else {}
        overrides = methods.get(method.id)
        if overrides is None:
            overrides = {k: v for k, v in methods.get(method.card.name, {}).items() if k not in preset}
        for name, form in method.card.presets.items():
            for key in set(form.params) & set(overrides) if form.nfe else ():
                if overrides[key] != method.params(dataset)[key]:
                    form_id = f"{method.card.name}-{name}"
                    raise UserError(f"{method.id}: {key} decides its NFE; choose a preset instead, e.g. {form_id}")
        return method.params(dataset, overrides)

    def learnt_on(self, entrant: Entrant) -> Fitted:
        """The model that an entrant's solver is fitted on: its own, or the same one on the dataset of `taken_from`."""
        own = entrant.fitted
        solver = None if entrant.control or entrant.solver == OWN else registry.get(entrant.solver, "solver")
        if solver is None or TAKEN_FROM not in solver.card.params:
            return own
        return replace(own, dataset=self.params(own.dataset, solver)[TAKEN_FROM] or own.dataset)

    def parts(self, entrant: Entrant) -> list[str]:
        """The parts that an entrant's samples are drawn in, a job each: "1of3" and so on; none where one job does."""
        section = self.section(entrant.fitted.dataset)
        k = min(section.compute.sampling_jobs, -(-section.n_samples // section.batch))
        return [f"{i}of{k}" for i in range(1, k + 1)] if k > 1 and not entrant.control else []

    def sampled_from(self, entrant: Entrant) -> list[Fitted]:
        """The models that sampling needs: the entrant's own, and the one that its solver is fitted on."""
        return [] if entrant.control else list(dict.fromkeys([entrant.fitted, self.learnt_on(entrant)]))

    def pair_set(self, fitted: Fitted) -> PairSet | None:
        """The pairs of its teacher's ODE that a fit learns from. Raises UserError for a solver that can't make them."""
        method = fitted.accelerator_method
        if method is None or method.card.teacher is None:
            return None
        pairs = PairSet.of(method.card.teacher, self.params(fitted.dataset, method))
        at = f"config: datasets.{fitted.dataset}.methods.{method.id}"
        pairs.check(at, registry.get(pairs.solver, "solver").nfe, DATASETS[fitted.dataset].family)
        return pairs if pairs.n else None

    def pair_files(self, layout: Layout, fitted: Fitted) -> list[Path]:
        """The manifest of the pairs that a fit learns from, if it learns from any."""
        pairs, teacher = self.pair_set(fitted), fitted.upstream[-1:]
        return [layout.pairs(t.dataset, t.seed, t.model, pairs.name) for t in teacher if pairs]

    @cached_property
    def pairs(self) -> list[tuple[Fitted, PairSet]]:
        """All pairs that the study's fits learn from, with the model whose they are."""
        wanted = ((f.upstream[-1], pairs) for f in self.fitted if (pairs := self.pair_set(f)))
        return list(dict.fromkeys(wanted))

    def budget(self, fitted: Fitted) -> Training:
        """What a fit may spend: see `fewstep.budgets`."""
        return budgets.budget_of(self.section(fitted.dataset), fitted)
