"""What the stages share: threads, the study, loading a fitted model with its field."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from fewstep import data, registry
from fewstep.checkpoints import State, load_state
from fewstep.config import Study
from fewstep.data.dataset import Dataset
from fewstep.data.identity import identity
from fewstep.errors import OK, FewstepError, Skipped, Upstream, UserError, WeightsMissing, WriteError, one_line
from fewstep.facts import DATASETS
from fewstep.field import Field
from fewstep.files import read_json
from fewstep.inner import plain_solver
from fewstep.layout import Layout
from fewstep.paths import make_path
from fewstep.plan import Fitted, Plan
from fewstep.seeds import SampleRng, labels, latents


def load_plan(study_file: str) -> Plan:
    """The plan of a checked study, as the parent wrote it."""
    return Plan(Study.model_validate(read_json(study_file)))


def dataset_of(plan: Plan, layout: Layout, name: str) -> Dataset:
    """A dataset as the study trains on it; a real one is read from the file that the `data` step prepared."""
    section = plan.section(name)
    made_of = identity(section.source, layout.data(name))
    return data.load(name, layout.data(name), flip=section.flip, augment=section.augment, source=made_of)


def set_threads(threads: int) -> None:
    """One number of CPU threads for everything, so that a result doesn't depend on the machine's core count."""
    torch.set_num_threads(threads)


@dataclass
class Loaded:
    """A fitted model, ready to sample."""

    fitted: Fitted
    state: State
    device: torch.device

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return DATASETS[self.fitted.dataset].shape

    @cached_property
    def accelerator(self) -> registry.Method | None:
        """The method that was fitted on the baseline, if any."""
        return self.fitted.accelerator_method

    @cached_property
    def encode(self) -> Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]:
        """`encode(x0, eps) -> (noise, condition)`: what training puts beside data x0 [B, ...] and unit noise eps.

        A model without an encoder takes the noise as it is and no condition. Raises UserError where the encoder was
        fitted on another dataset.
        """
        build = self.accelerator.verb("encoder") if self.accelerator else None
        return build(self.state, self.fitted.dataset) if build else lambda x0, eps: (eps, {})

    def field(self, indices: range, latents: Tensor, purpose: str = "", **options) -> Field:
        """A fresh field for these samples; an accelerator's own `field` and `timesteps` come in here.

        A `purpose` other than sampling has random streams of its own.
        """
        build = self.accelerator.verb("field") if self.accelerator else None
        rng = SampleRng("/".join(filter(None, (self.fitted.dataset, purpose))), self.fitted.seed, indices)
        before = time.perf_counter()
        field = build(self.state, latents, rng) if build else self.plain_field()
        if latents.is_cuda:
            torch.cuda.synchronize()
        field.made_in = time.perf_counter() - before
        own = self.accelerator.verb("timesteps") if self.accelerator else None
        field.timesteps = partial(own, self.state) if own else None
        field.rng = rng
        if options.pop("record", False):
            field.trajectory = []
        if classes := DATASETS[self.fitted.dataset].classes:
            label = labels(rng.dataset, self.fitted.seed, indices, classes).to(latents.device)
            field.condition = {**field.condition, "label": label}
        for name, value in options.items():
            setattr(field, name, value)
        return field

    def plain_field(self, **options) -> Field:
        """A fresh field over the model alone, on its own grid."""
        card = self.state.card
        if card.get("exact"):
            path = make_path(card["path"])
            return Field(data.load(self.fitted.dataset).exact(path), path, card["schedule"], **options)
        return Field(self.state.model, self.state.model.path, card["schedule"], **options)

    def flops(self) -> dict[str, float]:
        """FLOPs for one sample, of matrix products and convolutions: of a network call, and of what makes the field.

        The latter are those of further networks, which an accelerator's `field` runs once a sample.
        """
        from torch.utils.flop_counter import FlopCounterMode  # slow to import, so not where samples are drawn

        z = latents(self.fitted.dataset, self.fitted.seed, range(1), self.shape).to(self.device)
        with FlopCounterMode(display=False) as helpers:
            field = self.field(range(1), z)
        with FlopCounterMode(display=False) as call:
            field(field.start(z, field.path.t_max), field.path.t_max)
        return {
            "flops_per_call": float(call.get_total_flops()),
            "helper_flops": float(helpers.get_total_flops()),
        }


def load_fitted(layout: Layout, fitted: Fitted, device: torch.device) -> Loaded:
    """Load a model. Raises Upstream, with its status, when its training did not finish."""
    file = layout.model(fitted.dataset, fitted.seed, fitted.model)
    state, header = load_state(file)
    if header["status"] != OK:
        raise Upstream(f"{fitted.model} on {fitted.dataset} was not fitted: {header['reason']}", header["status"])
    if (made_for := header.get("dataset", fitted.dataset)) != fitted.dataset:
        raise UserError(f"{file} was fitted on {made_for}, not on {fitted.dataset}; delete it and run again")
    if state.model is not None:
        state.model.to(device)
    return Loaded(fitted, state, device)


@contextlib.contextmanager
def own_failures() -> Iterator[None]:
    """A method's complaint is the failure of its own job; the other jobs go on. Missing weights skip it."""
    try:
        yield
    except WriteError:
        raise
    except WeightsMissing as missing:  # of a pretrained network that the method trains by
        raise Skipped(f"{missing.reason}: {missing}") from missing
    except UserError as error:
        raise FewstepError(one_line(error)) from error


def solver_call(plan: Plan, dataset: str, id: str) -> Callable[..., Tensor]:
    """`solver(field, latents, nfe)` with the study's parameters filled in."""
    method = plain_solver(id)
    return partial(method.verb("sample"), **plan.params(dataset, method))


def training_loss(baseline: registry.Method, params: dict) -> Callable[..., Tensor] | None:
    """`loss(model, x0, eps, rng, **condition)` of a baseline with its parameters; None if it has none to share."""
    loss = baseline.verb("loss")
    if loss is None:
        return None
    known = inspect.signature(loss).parameters
    return partial(loss, **{name: value for name, value in params.items() if name in known})


def layout_of(results: str | Path) -> Layout:
    """The layout below a results folder."""
    return Layout(Path(results))
