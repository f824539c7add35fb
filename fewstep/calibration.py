"""What a solver's `fit` is given: a model to look at, and nothing of the samples that are judged.

A solver that learns a little from the field (time steps, a few coefficients, statistics) has a function
`fit(task) -> State` beside `sample`, which then takes the fitted tensors: `sample(field, latents, nfe, fitted, …)`.
What the fit costs, in network calls and in seconds, stands in the record beside the solver's quality.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep import seeds
from fewstep.checkpoints import State, load_tensors, save_tensors
from fewstep.data.dataset import Dataset
from fewstep.errors import CheckpointError
from fewstep.field import Field
from fewstep.registry import Method


@dataclass
class Calibration:
    """A solver's fit on one model.

    params      the solver's parameters
    nfes        the NFE that it will be asked for
    make_field  (latents' indices, latents, options) -> a fresh field over the model
    solver_of   a solver of the registry by name, its parameters filled in: solver(field, latents, nfe)
    axes        names of this fit, from which its random numbers derive
    """

    dataset: Dataset
    params: dict[str, Any]
    nfes: Sequence[int]
    axes: tuple[str | int, ...]
    make_field: Callable[..., Field]
    solver_of: Callable[[str], Callable[..., Tensor]]
    state_dir: Path
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    on_progress: Callable[[], None] = lambda: None
    fields: list[Field] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=lambda: {"calls": 0.0, "seconds": 0.0})

    def generator(self, *purpose: str | int) -> torch.Generator:
        """A CPU generator for one purpose."""
        return seeds.generator(*self.axes, *purpose)

    def latents(self, n: int, purpose: str = "fit") -> Tensor:
        """Unit latents [n, ...], apart from the ones that samples are judged on; solvers of one model share them."""
        name = f"{self.dataset.name}/calibration/{purpose}"
        return seeds.latents(name, self.axes[-1], range(n), self.dataset.shape).to(self.device)

    def field(self, latents: Tensor, **options: Any) -> Field:
        """A field for these latents, its calls added to the cost of the fit. Options: see `fewstep.field.Field`."""
        made = self.make_field(range(len(latents)), latents, **options)
        self.fields.append(made)
        return made

    def solver(self, id: str) -> Callable[..., Tensor]:
        """A solver of the registry by name: `solver(field, latents, nfe)`."""
        return self.solver_of(id)

    @property
    def calls(self) -> float:
        """Network evaluations of single samples so far."""
        return self.spent["calls"] + sum(made.evaluations for made in self.fields)

    def once(self, name: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """`compute()`, or what it gave before a kill: its tensors are kept in the state folder."""
        file = self.state_dir / f"calibration-{name}.safetensors"
        self.on_progress()
        try:
            tensors, header = load_tensors(file)
            self.spent["calls"] += header["calls"]
            self.spent["seconds"] += header["seconds"]
            return tensors
        except CheckpointError:
            pass
        before, started = self.calls, time.monotonic()
        tensors = compute()
        save_tensors(file, tensors, {"calls": self.calls - before, "seconds": time.monotonic() - started})
        return {name: tensor.detach().cpu() for name, tensor in tensors.items()}

    def state(self, **tensors: Tensor) -> State:
        """What `fit` returns."""
        return State(None, {}, {name: tensor.detach().cpu() for name, tensor in tensors.items()})


def calibrate(method: Method, task: Calibration) -> State:
    """Run a solver's fit; its cost is in `info`: `calls` (of single samples) and `seconds`."""
    started = time.monotonic()
    state = method.verb("fit")(task)
    state.info |= {"calls": task.calls, "seconds": round(time.monotonic() - started + task.spent["seconds"], 3)}
    return state


def bind(method: Method, params: dict[str, Any], state: State | None) -> Callable[..., Tensor]:
    """`sample(field, latents, nfe)` of a solver, its parameters and what it fitted filled in."""
    sample = partial(method.verb("sample"), **params)
    return sample if state is None else partial(sample, fitted=state.tensors)
