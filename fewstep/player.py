"""One of those that move weights in a training: its own loss, its own optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep import distributed

LARGEST_GRADIENT = 1e5  # what an infinite one of an unclipped player counts as


@dataclass
class Player:
    """Some weights, and the loss that they are moved to lower, by an Adam of their own.

    loss(rng) draws its batch and returns a scalar. The learning rate is `rate` times the budget's. Without `clip`, NaN
    in a gradient counts as 0 and infinity as a large number.
    """

    name: str
    weights: Sequence[nn.Parameter]
    loss: Callable[[torch.Generator], Tensor]
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = None

    def __post_init__(self):
        self.weights = list(self.weights)
        self.optimiser = torch.optim.Adam(self.weights, lr=0.0, betas=self.betas, fused=True)

    def step(self, value: Tensor, lr: float) -> None:
        """One step down the gradient of `value`."""
        self.optimiser.zero_grad(set_to_none=True)
        distributed.backward(value, self.weights)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, self.clip)
        else:
            for weight in self.weights:
                if weight.grad is not None:
                    torch.nan_to_num_(weight.grad, 0.0, LARGEST_GRADIENT, -LARGEST_GRADIENT)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * self.rate
        self.optimiser.step()

    def moments(self) -> dict[str, Tensor]:
        """Adam's state, flat."""
        state = self.optimiser.state_dict()["state"]
        return {f"{i}.{name}": torch.as_tensor(value) for i, own in state.items() for name, value in own.items()}

    def load_moments(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `moments`."""
        state = self.optimiser.state_dict()
        for key, value in tensors.items():
            index, moment = key.split(".")
            weight = self.weights[int(index)]
            if value.shape == weight.shape:  # in the weight's memory format, which a file does not keep
                value = torch.empty_like(weight).copy_(value)
            state["state"].setdefault(int(index), {})[moment] = value
        self.optimiser.load_state_dict(state)
