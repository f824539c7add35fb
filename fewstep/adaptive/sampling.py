"""Sampling and encoding with a fitted state: what is drawn beside the latents, and what goes with given data."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.adaptive.codebook import Codebook
from fewstep.adaptive.joint import Joint
from fewstep.adaptive.weights import draw
from fewstep.checkpoints import State
from fewstep.field import Field
from fewstep.seeds import SampleRng, generator


def field_of(state: State, latents: Tensor, rng: SampleRng) -> Field:
    """The network with a code for each sample, drawn by the state's weights and fixed along its whole path."""
    spec, condition = state.card["beside"], {}
    if spec.get("code") == "gaussian":
        condition = {"extra": rng.randn("code", spec["dimensions"]).to(latents)}
    elif spec.get("code"):
        weights = state.card.get("weights", "online")
        cells = draw(state.tensors[f"{weights}.cells"], state.tensors[f"{weights}.shares"], rng)
        condition = {"extra": Codebook(spec["levels"], spec["dimensions"]).code(cells).to(latents)}
    return Field(state.model, state.model.path, state.card["schedule"], condition=condition)


def posterior(state: State, rng: SampleRng) -> Callable[[Tensor], Tensor]:
    """Unit latents -> noise that the encoder gives to training samples, one drawn for each: the aggregate posterior.

    The samples are those that the fit kept, as `posterior_samples`.
    """
    joint, x = Joint.of(state), state.tensors["posterior_samples"]
    chosen = x[(rng.rand("posterior", 1).flatten() * len(x)).long()]

    def noise(latents: Tensor) -> Tensor:
        return joint.to(latents.device).beside(chosen.to(latents), latents, None).noise

    return noise


def encoder_of(state: State, dataset: str) -> Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]:
    """`encode(x0, eps) -> (noise, condition)`. Raises UserError where the encoder was fitted on another dataset."""
    joint, rng = Joint.of(state, dataset), generator("encode", dataset)  # rng: for a rule that draws

    @torch.no_grad()
    def encode(x0: Tensor, eps: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        beside = joint.to(x0.device).beside(x0, eps, rng)
        return beside.noise, beside.condition

    return encode
