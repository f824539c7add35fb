"""What `method.yaml` may say. It is read without importing any code of the method."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fewstep.pairset import PARAMS
from fewstep.schema import Strict

Kind = Literal["baseline", "solver", "accelerator", "control"]


class Paper(Strict):
    """Where a method was published."""

    title: str
    arxiv: str = ""
    bibtex: str = ""


class NFE(Strict):
    """The NFE that a method can make: first, first + step, first + 2 step, … up to last, if there is one."""

    first: int = Field(1, ge=1)
    step: int = Field(1, ge=1)
    last: int | None = Field(None, ge=1)
    adaptive: bool = False  # what is asked for is a limit; samples may take fewer calls, and their mean is recorded

    def allows(self, nfe: int) -> bool:
        """Whether `nfe` network calls are possible."""
        return self.first <= nfe <= (self.last or nfe) and (nfe - self.first) % self.step == 0

    def describe(self) -> str:
        """`1, 3, 5, …`, or all of them where they end."""
        if self.last:
            return ", ".join(map(str, range(self.first, self.last + 1, self.step)))
        return ", ".join(str(self.first + k * self.step) for k in range(3)) + ", …"


class Supports(Strict):
    """What a method can be combined with."""

    baselines: list[str] | Literal["all"] = "all"
    data: Literal["any", "image", "vector"] = "any"
    # Runs on class-conditional datasets. Default: all but accelerators, whose pairs, codes and critics know no classes
    conditional: bool | None = None


class Preset(Strict):
    """A named form of a method, entered in a study as `name-preset`."""

    label: str
    params: dict[str, Any] = {}
    data: Literal["image", "vector"] | None = None  # what this form runs on (default: what the card supports)
    nfe: NFE | None = None
    order: float | None = None
    order_graded: float | None = None
    exact: bool | None = None
    stochastic: bool = False  # adds noise while it samples: no ODE solution to be near
    required: list[str] = []  # parameters that have no default: a study that enters this sets them
    learns: bool = True  # false: this form of a solver that learns from the field needs no fit
    solvers: list[str] | None = None  # what a fitted model of this form is sampled with (default: the card's)
    budget: Literal["fit", "train"] | None = None  # what a fit of this form may spend (default: as the card says)
    builds_on: str | None = None  # the preset whose fit this one's starts from; "" is the method without a preset


class MethodCard(Strict):
    """The whole of method.yaml."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    label: str
    kind: Kind
    summary: str
    paper: Paper
    supports: Supports = Supports()
    params: dict[str, Any] = {}
    datasets: dict[str, dict[str, Any]] = {}  # the paper's parameters for a dataset
    presets: dict[str, Preset] = {}
    enter: list[str] = [""]  # the presets that `all` stands for; "" is the method without a preset
    env: str | None = None  # a conda environment of its own, relative to the folder
    # baselines
    path: Literal["edm", "rf", "si", "vp"] | None = None
    schedule: str | None = None  # an accelerator's too, whose model lives on another path than its baseline
    exact: bool = False  # on a dataset with a closed-form field, that field is what this baseline would learn
    # solvers, and accelerators with a rule of their own
    nfe: NFE | None = None  # of an accelerator: those that its fitted model is made for
    order: float | None = None  # of convergence, as the rule runs; 0: learnt for each NFE, so there is none
    order_graded: float | None = None  # on a grid with small first and last steps, where a start by Euler doesn't count
    converges: bool = True  # false: a rule that more calls bring no nearer to the ODE's solution; it has no order
    # accelerators
    enter_on: list[str] | None = None  # the baselines on which `all` enters it (default: all that it supports)
    solvers: list[str] | Literal["all", "own"] = "all"
    # learns from its teacher's trajectories, of which this is kept: their ends, or all nodes
    teacher: Literal["pairs", "paths"] | None = None
    budget: Literal["fit", "train"] = "fit"  # train: a network from scratch, on the baseline's own budget

    @model_validator(mode="after")
    def _complete(self) -> MethodCard:
        if self.kind == "baseline" and (self.path is None or self.schedule is None):
            raise ValueError("a baseline needs `path` and `schedule`")
        if (self.kind == "solver" or self.solvers == "own") and self.nfe is None:
            raise ValueError("what samples by a rule of its own needs `nfe` (first, step)")
        if self.kind == "solver" and self.converges == (self.order is None):
            raise ValueError("a solver needs its `order` of convergence, or `converges: false`")
        for preset, form in self.presets.items():
            if foreign := set(form.params) - set(self.params):
                raise ValueError(f"preset {preset!r} sets {sorted(foreign)}, which `params` does not list")
            if foreign := set(form.required) - set(self.params):
                raise ValueError(f"preset {preset!r} requires {sorted(foreign)}, which `params` does not list")
            if form.builds_on is not None:
                self._check_parent(preset, form.builds_on)
        for dataset, params in self.datasets.items():
            if foreign := set(params) - set(self.params):
                raise ValueError(f"datasets.{dataset} sets {sorted(foreign)}, which `params` does not list")
        budgets = {self.budget, *(form.budget for form in self.presets.values())}
        if "train" in budgets and self.kind != "accelerator":
            raise ValueError("`budget: train` is for accelerators that train from scratch")
        if self.teacher and (lacking := [name for name in PARAMS if name not in self.params]):
            raise ValueError(f"`teacher: {self.teacher}` needs the parameters {', '.join(lacking)}")
        if missing := set(self.enter) - {""} - set(self.presets):
            raise ValueError(f"`enter` names {sorted(missing)}, which `presets` does not list")
        return self

    def _check_parent(self, preset: str, parent: str) -> None:
        if self.kind != "accelerator":
            raise ValueError(f"preset {preset!r} builds on a fit, and only accelerators do")
        if foreign := {form.builds_on for form in self.presets.values()} - {None, "", *self.presets}:
            raise ValueError(f"preset {preset!r} builds on {min(foreign)!r}, which `presets` does not list")
        line = [preset]
        while parent:
            if parent in line:
                raise ValueError(f"preset {preset!r} builds on itself: {' on '.join([*line, parent])}")
            line.append(parent)
            parent = self.presets[parent].builds_on
