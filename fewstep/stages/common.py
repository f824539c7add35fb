"""What the stages share: threads, the study, loading a fitted model with its field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep import data, registry
from fewstep.checkpoints import State, load_state
from fewstep.config import Study
from fewstep.data.dataset import Dataset
from fewstep.errors import OK, Upstream
from fewstep.field import Field
from fewstep.files import read_json
from fewstep.layout import Layout
from fewstep.paths import make_path
from fewstep.plan import NONE, Fitted, Plan
from fewstep.seeds import SampleRng


def load_plan(study_file: str) -> Plan:
    """The plan of a checked study, as the parent wrote it."""
    return Plan(Study.model_validate(read_json(study_file)))


def set_threads(threads: int) -> None:
    """One number of CPU threads for everything, so that a result doesn't depend on the machine's core count."""
    torch.set_num_threads(threads)


@dataclass
class Loaded:
    """A fitted model, ready to sample."""

    fitted: Fitted
    state: State
    header: dict[str, Any]
    dataset: Dataset
    device: torch.device
    accelerator: registry.Method | None

    def field(self, indices: range, latents: Tensor, **options) -> Field:
        """A fresh field for these samples; an accelerator's own `field` and `timesteps` come in here."""
        build = self.accelerator.verb("field") if self.accelerator else None
        rng = SampleRng(self.dataset.name, self.fitted.seed, indices)
        field = build(self.state, latents, rng) if build else self._plain_field()
        own = self.accelerator.verb("timesteps") if self.accelerator else None
        field.timesteps = partial(own, self.state) if own else None
        for name, value in options.items():
            setattr(field, name, value)
        return field

    def _plain_field(self) -> Field:
        card = self.state.card
        if card.get("exact"):
            path = make_path(card["path"])
            return Field(self.dataset.exact(path), path, card["schedule"])
        return Field(self.state.model, self.state.model.path, card["schedule"])


def load_fitted(layout: Layout, fitted: Fitted, device: torch.device) -> Loaded:
    """Load a model. Raises Upstream, with its status, when its training did not finish."""
    state, header = load_state(layout.model(fitted.dataset, fitted.seed, fitted.model))
    if header["status"] != OK:
        raise Upstream(f"{fitted.model} was not fitted: {header['reason']}", header["status"])
    if state.model is not None:
        state.model.to(device)
    accelerator = None if fitted.accelerator == NONE else registry.get(fitted.accelerator, "accelerator")
    return Loaded(fitted, state, header, data.load(fitted.dataset), device, accelerator)


def solver_call(plan: Plan, dataset: str, id: str) -> Callable[..., Tensor]:
    """`solver(field, latents, nfe)` with the study's parameters filled in."""
    method = registry.get(id, "solver")
    return partial(method.verb("sample"), **plan.params(dataset, method))


def layout_of(results: str | Path) -> Layout:
    """The layout below a results folder."""
    return Layout(Path(results))
