"""Training on a teacher's pairs, which reflow and its kin share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.model import Model
from fewstep.pairs import Pairs
from fewstep.task import Task
from fewstep.training import train


def fit_to_pairs(task: Task, student: Model, pairs: Pairs, loss: Callable[..., Tensor]) -> Model:
    """Minimise `loss(model, x0, z, rng)` on pairs drawn with replacement, and return the averaged model."""

    def draw(n: int, rng: torch.Generator) -> Tensor:
        return torch.randint(len(pairs), (n,), generator=rng)

    def on_batch(model: Model, i: Tensor, rng: torch.Generator) -> Tensor:
        return loss(model, *pairs.batch(i), rng)

    return train(task, student, on_batch, draw=draw)
