"""The pairs of data and noise that a model was trained on, and its flow-matching loss on them.

One parametrisation for all, as in `evaluation.trajectories`, and the same draws for every model of a dataset and
training seed, so that two models' losses differ by the models alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from evaluation.metrics.flow_matching import flow_matching_loss
from evaluation.trajectories import straight_velocity
from fewstep.coupling import couple
from fewstep.data.dataset import Dataset
from fewstep.losses import normal_like
from fewstep.paths import like
from fewstep.seeds import generator
from fewstep.stages.common import Loaded

PAIRS, AT_ONCE = 4096, 256  # draws, and how many of them a network sees at a time


def known(loaded: Loaded) -> bool:
    """Whether it's known what training puts beside data: it is of a baseline, and of an accelerator with an encoder."""
    return loaded.accelerator is None or loaded.accelerator.verb("encoder") is not None


def losses(loaded: Loaded, dataset: Dataset, coupling: str, batch: int, n: int = PAIRS) -> Tensor:
    """The flow-matching loss of n training draws of the dataset, per element [n], at uniform noise fractions.

    coupling, batch: of the training (see `fewstep.coupling`); an accelerator then encodes what the coupling gives.
    """
    found = []
    for rows, x0, told, eps, u in _draws(loaded, dataset, n, batch):
        eps = couple(x0, eps, coupling)
        for at in (slice(start, start + AT_ONCE) for start in range(0, len(x0), AT_ONCE)):
            about = {name: value[at] for name, value in told.items()}
            found.append(_losses(loaded, rows[at], x0[at], about, eps[at], u[at]))
    return torch.cat(found)


def _losses(loaded: Loaded, rows: range, x0: Tensor, told: dict[str, Tensor], eps: Tensor, u: Tensor) -> Tensor:
    """The loss of each pair x_0, eps [b, ...] at the noise fractions u [b]."""
    with torch.no_grad():
        noise, condition = loaded.encode(x0, eps)
    field = loaded.field(rows, noise, "cfm_loss", condition={**condition, **told})
    u = u.clamp(field.path.u_min, field.path.u_max)  # no model is asked beyond its path's ends
    z = like(1 - u, x0) * x0 + like(u, x0) * noise
    return flow_matching_loss(straight_velocity(field, z, u), x0, noise)


def _draws(loaded: Loaded, dataset: Dataset, n: int, batch: int) -> Iterator[tuple]:
    """Indices, x_0, what a network is told of it, eps, u [b] of a batch; the same for every model and batch size.

    Images are as they are: the augmentations of a training are not among the data that a model stands for.
    """
    rng = generator("cfm_loss", dataset.name, loaded.fitted.seed)
    x0, told = replace(dataset, augment=0.0).examples(n, rng)
    eps, u = normal_like(x0, rng), torch.rand(n, generator=rng, dtype=torch.float64)
    for start in range(0, n, batch):
        rows = range(start, min(start + batch, n))
        at = slice(rows.start, rows.stop)
        about = {name: value[at].to(loaded.device) for name, value in told.items()}
        yield rows, x0[at].to(loaded.device), about, eps[at].to(loaded.device), u[at]
