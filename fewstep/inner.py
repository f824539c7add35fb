"""A solver of the registry inside another method's rule: by name, with its method.yaml's parameters, on given times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from fewstep import registry
from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.registry import Method


def plain_solver(id: str) -> Method:
    """The solver called `id`. Raises UserError when there is none, or when it has to be fitted itself."""
    method = registry.get(id, "solver")
    if method.learns:
        raise UserError(f"{id} is fitted itself, so no other solver can run it")
    return method


def plain(id: str) -> Callable[..., Tensor]:
    """`sample(field, latents, nfe)` of the solver `id`."""
    method = plain_solver(id)
    return partial(method.verb("sample"), **method.params(""))


def run(id: str, field: Field, latents: Tensor, nfe: int, timesteps) -> Tensor:
    """Samples [B, ...] of the solver `id`; `timesteps`, n -> n + 1 times, replaces every grid meanwhile."""
    kept, field.timesteps = field.timesteps, timesteps
    try:
        return plain(id)(field, latents, nfe)
    finally:
        field.timesteps = kept
