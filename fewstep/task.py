"""What a method's `fit` is given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep import seeds
from fewstep.checkpoints import State
from fewstep.config import Compute, Training
from fewstep.coupling import COUPLINGS, couple
from fewstep.data.dataset import Dataset
from fewstep.errors import FewstepError
from fewstep.facts import AUGMENT_DIM
from fewstep.field import Field
from fewstep.model import Model, build_model
from fewstep.pairs import PairMaker, Pairs
from fewstep.paths import Path as DiffusionPath


@dataclass
class Task:
    """One fit: data, parameters, budget, seed, device, and a folder to resume from.

    baseline   the fitted baseline that an accelerator starts from (None for a baseline's own fit)
    loss       how that baseline is trained: loss(model, x0, eps, rng, **condition) -> scalar; it takes `warp`, too
    coupling   how that baseline's training pairs data with noise
    parent     the fit that this one builds on, where the method says so
    pair_maker what makes, or reads, the teacher's pairs, where the method says that it learns from some
    ledger     costs that the method reports, e.g. {"teacher_calls": 8192}
    diverged   why a training that was watched ended early; what `fit` then returns are its last good weights
    compute    precision, compiler and microbatch of training
    """

    dataset: Dataset
    params: dict[str, Any]
    budget: Training
    net: dict[str, Any]
    axes: tuple[str | int, ...]
    state_dir: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    baseline: Model | None = None
    loss: Callable[..., Tensor] | None = None
    coupling: str = COUPLINGS[0]
    parent: State | None = None
    schedule: str = "uniform"
    ledger: dict[str, Any] = field(default_factory=dict)
    solver_of: Callable[[str], Callable[..., Tensor]] | None = None
    pair_maker: PairMaker | None = None
    diverged: str = ""
    compute: Compute = field(default_factory=Compute)

    @property
    def teacher(self) -> Model:
        """The model that this fit starts from, with averaged weights: its parent's or the baseline's."""
        return self.parent.model if self.parent else self.baseline

    def generator(self, *purpose: str | int) -> torch.Generator:
        """A CPU generator for one purpose, derived from dataset, method and seed."""
        return seeds.generator(*self.axes, *purpose)

    def latents(self, indices, purpose: str) -> Tensor:
        """Unit latents for training, one stream an index, apart from the ones that samples are judged on."""
        return seeds.latents(f"{self.dataset.name}/{purpose}", self.axes[-1], indices, self.dataset.shape)

    def new_model(
        self,
        path: DiffusionPath,
        parametrisation: str,
        sigma_data: float = 0.5,
        multidimensional: bool = False,
        **net: Any,
    ) -> Model:
        """A freshly initialised network on `path`, the study's with further options `net`; the global RNG stays.

        It can be told what the dataset tells of each sample: class, augmentation.
        """
        told = {"label_dim": self.dataset.facts.classes, "augment_dim": AUGMENT_DIM * (self.dataset.augment > 0)}
        net = {name: width for name, width in told.items() if width} | net
        card = {
            "path": path.name,
            "parametrisation": parametrisation,
            "sigma_data": sigma_data,
            "multidimensional": multidimensional,
        }
        with seeds.first_weights(*self.axes, "init"):
            model = build_model({**card, "net": {**self.net, **net}, "shape": self.dataset.shape})
        return model.to(self.device)

    def field(self, model: Model, budget: int | None = None) -> Field:
        """A metered field over a model, on the baseline's own grid."""
        return Field(model, model.path, self.schedule, budget=budget)

    def noise_for(self, x0: Tensor, rng: torch.Generator) -> Tensor:
        """Unit noise for a batch of data x0 [B, ...], paired as in the baseline's training."""
        return couple(x0, torch.randn(x0.shape, generator=rng).to(x0), self.coupling)

    def pairs(self) -> Pairs:
        """The teacher's pairs (noise, sample); their cost goes into the ledger. Missing shards are made.

        Raises UserError for stored pairs of another source, FewstepError where none are asked for.
        """
        maker = self.pair_maker
        if maker is None:
            raise FewstepError("to learn from pairs, method.yaml needs `teacher: pairs` (or paths) and `pairs` above 0")
        pairs = maker.pairs()
        self.spend(teacher_calls=round(maker.calls), seconds_before=maker.seconds_before)
        return pairs

    def student(self) -> Model:
        """A copy of the teacher to train."""
        return copy.deepcopy(self.teacher).requires_grad_(True)

    def solver(self, id: str) -> Callable[..., Tensor]:
        """A solver of the registry by name: `solver(field, latents, nfe)`, its parameters filled in."""
        return self.solver_of(id)

    def spend(self, **costs: float) -> None:
        """Add costs to the ledger: teacher_calls, steps, seconds_before (by processes before this one)."""
        for name, cost in costs.items():
            self.ledger[name] = self.ledger.get(name, 0) + cost

    def state(self, model: Model, **tensors: Tensor) -> State:
        """What `fit` returns. Raises FewstepError for a model that can't be built again from a card."""
        if not model.card:
            raise FewstepError("this model has no card to build it from; make it by task.new_model")
        return State(model, dict(model.card), tensors, dict(self.ledger))
