"""What a fit may spend: the section's `train` or `fit`, with what the section says of single methods on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewstep import registry
from fewstep.config import DatasetStudy, Training
from fewstep.errors import UserError
from fewstep.schema import parse
from fewstep.suggest import unknown

if TYPE_CHECKING:
    from fewstep.plan import Fitted


def check_names(dataset: str, section: DatasetStudy) -> None:
    """`budgets` names methods, or models by theirs. Raises UserError with the nearest name."""
    known = registry.discover()
    for name in (part for model in section.budgets for part in model.split("+")):
        if name not in known:
            raise UserError(f"config: datasets.{dataset}.budgets: {unknown('method', name, known)}")


def budget_of(section: DatasetStudy, fitted: Fitted) -> Training:
    """The budget of a fitted model.

    A network that an accelerator trains from scratch has its baseline's. What `budgets` says of a method counts for all
    its presets; where it says something of several that fit, the preset goes before the method, and the model before
    both. Raises UserError for an unknown key or a value that is out of range.
    """
    baseline = registry.get(fitted.baseline, "baseline")
    method = fitted.accelerator_method or baseline
    scratch = method is baseline or method.budget == "train"
    layers = [*([baseline] if scratch else []), *([method] if method is not baseline else [])]
    names = [name for layer in layers for name in dict.fromkeys((layer.card.name, layer.id))]
    own = {key: value for name in (*names, fitted.model) for key, value in section.budgets.get(name, {}).items()}
    shared = section.train if scratch else section.fit
    where = f"config: datasets.{fitted.dataset}.budgets ({fitted.model})"
    return parse(Training, shared.model_dump() | own, where) if own else shared
