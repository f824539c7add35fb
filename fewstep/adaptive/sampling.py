"""Sampling and encoding with a fitted state: what is drawn beside the latents, and what goes with given data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep import data
from fewstep.adaptive.joint import Joint
from fewstep.adaptive.weights import draw
from fewstep.checkpoints import State
from fewstep.field import Field
from fewstep.seeds import SampleRng, generator


def field_of(state: State, latents: Tensor, rng: SampleRng) -> Field:
    """The network with a code for each sample, drawn by the state's weights and fixed along its whole path."""
    spec, condition = state.card["beside"], {}
    if spec.get("code"):
        joint = Joint.of(state)
        if joint.discrete:
            kind = state.card["weights"]
            cells = draw(state.tensors[f"{kind}.cells"], state.tensors[f"{kind}.shares"], rng)
            code = joint.rule.codebook.code(cells)
        else:
            code = rng.randn("code", joint.rule.d)
        condition = {"extra": code.to(latents)}
    return Field(state.model, state.model.path, state.card["schedule"], condition=condition)


def posterior(state: State, rng: SampleRng) -> Callable[[Tensor], Tensor]:
    """Unit latents -> noise that the encoder gives to training samples, one drawn for each: the aggregate posterior."""
    joint, x = Joint.of(state), data.load(state.card["beside"]["dataset"]).reference
    chosen = x[(rng.rand("posterior", 1).flatten() * len(x)).long()]
    return lambda latents: (
        joint.to(latents.device).beside(chosen.to(latents.dtype).to(latents.device), latents, None).noise
    )


def encoder_of(state: State, dataset: str) -> Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """`encode(x0, eps) -> (noise, condition)`. Raises UserError where the encoder was fitted on another dataset."""
    joint = Joint.of(state, dataset)

    @torch.no_grad()
    def encode(x0: Tensor, eps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        beside = joint.to(x0.device).beside(x0, eps, generator("encode", dataset))
        return beside.noise, beside.condition

    return encode
