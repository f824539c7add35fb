"""What a dataset is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.facts import DATASETS, Facts


@dataclass(frozen=True)
class Dataset:
    """reference  the set that samples are judged against, [N, *shape] float32 (images in [-1, 1])
    draw       (n, generator) -> [n, *shape], a training batch
    exact      path -> predictor with the closed-form field, where there is one
    """

    name: str
    reference: Tensor
    draw: Callable[[int, torch.Generator], Tensor]
    exact: Callable | None = None

    @property
    def facts(self) -> Facts:
        """Family, shape and primary metric."""
        return DATASETS[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.facts.shape

    @property
    def std(self) -> float:
        """Root mean square deviation from the mean, over all elements."""
        return float((self.reference - self.reference.mean(0)).square().mean().sqrt())


def from_set(x: Tensor) -> Callable[[int, torch.Generator], Tensor]:
    """Draw training batches from a finite set, with replacement."""
    return lambda n, rng: x[torch.randint(len(x), (n,), generator=rng)]
