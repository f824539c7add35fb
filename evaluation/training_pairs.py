"""The pairs of data and noise that a model was trained on, and its flow-matching loss on them.

One parametrisation for all, as in `evaluation.trajectories`, and the same draws for every model of a dataset and
training seed, so that two models' losses differ by the models alone.
"""

from __future__ import annotations

from collections.abc import Iterator

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

PAIRS = 4096


def known(loaded: Loaded) -> bool:
    """Whether it's known what training puts beside data: it is of a baseline, and of an accelerator with an encoder."""
    return loaded.accelerator is None or loaded.accelerator.verb("encoder") is not None


def losses(loaded: Loaded, dataset: Dataset, coupling: str, batch: int, n: int = PAIRS) -> Tensor:
    """The flow-matching loss of n training draws of the dataset, per element [n], at uniform noise fractions.

    coupling, batch: of the training (see `fewstep.coupling`); an accelerator then encodes what the coupling gives.
    """
    found = []
    for rows, x0, eps, u in _draws(loaded, dataset, n, batch):
        with torch.no_grad():
            noise, condition = loaded.encode(x0, couple(x0, eps, coupling))
        field = loaded.field(rows, noise, "cfm_loss", condition=condition)
        u = u.clamp(field.path.u_min, field.path.u_max)  # no model is asked beyond its path's ends
        z = like(1 - u, x0) * x0 + like(u, x0) * noise
        found.append(flow_matching_loss(straight_velocity(field, z, u), x0, noise))
    return torch.cat(found)


def _draws(loaded: Loaded, dataset: Dataset, n: int, batch: int) -> Iterator[tuple[range, Tensor, Tensor, Tensor]]:
    """Indices, x_0, eps and u [b] of a batch; together the same for every model and batch size."""
    rng = generator("cfm_loss", dataset.name, loaded.fitted.seed)
    x0 = dataset.draw(n, rng)
    eps, u = normal_like(x0, rng), torch.rand(n, generator=rng, dtype=torch.float64)
    for start in range(0, n, batch):
        rows = range(start, min(start + batch, n))
        at = slice(rows.start, rows.stop)
        yield rows, x0[at].to(loaded.device), eps[at].to(loaded.device), u[at]
