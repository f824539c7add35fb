"""Whether an adversarial training still makes something like the data: its losses don't tell."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewstep.errors import Diverged

MARGIN = 0.5  # in units of the data's variance


def moment_distance(x: Tensor, y: Tensor) -> float:
    """Fréchet distance of x and y [n, ...] as independent Gaussians in each element, over y's total variance.

    0 for equal moments; 1 where x is y's mean alone.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    means, deviations = x.mean(0) - y.mean(0), x.std(0) - y.std(0)
    return float((means.square() + deviations.square()).sum() / y.var(0).sum())


class Watch:
    """`watch(model)` raises Diverged when samples(model) have gone further from the data than `start`'s by a margin.

    samples(model) gives [n, ...], the same latents each time. A model that collapses to a point ends at a distance of 1
    or more, one that runs away far beyond; what a refinement does to a usable model stays far below the margin.
    """

    def __init__(self, samples: Callable[[nn.Module], Tensor], start: nn.Module, reference: Tensor):
        self.samples, self.reference = samples, reference
        self.limit = self.distance(start) + MARGIN

    @torch.no_grad()
    def distance(self, model: nn.Module) -> float:
        """Of the model's samples to the data."""
        return moment_distance(self.samples(model).cpu(), self.reference)

    def __call__(self, model: nn.Module) -> None:
        found = self.distance(model)
        if not found <= self.limit:  # nor is NaN
            raise Diverged(
                f"the samples' means and deviations have gone {found:.3g} of the data's variance from the data's; "
                f"{self.limit:.3g} is the limit: lower the learning rates or the largest weight"
            )
