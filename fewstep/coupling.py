"""How training pairs data with noise."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.errors import UserError

COUPLINGS = ("independent", "ot")


def couple(x0: Tensor, eps: Tensor, coupling: str) -> Tensor:
    """The noise [B, ...] re-ordered for the data batch x0 [B, ...].

    `ot` is the exact minibatch optimal-transport assignment under squared Euclidean cost (arXiv 2302.00482, alg. 3),
    as a permutation: lower variance than drawing pairs from the plan, and every point is kept.
    """
    if coupling == "independent":
        return eps
    if coupling != "ot":
        raise UserError(f"unknown coupling {coupling!r}; there are {', '.join(COUPLINGS)}")
    import ot

    cost = torch.cdist(x0.flatten(1).double(), eps.flatten(1).double()).square()
    plan = ot.emd([], [], cost.cpu().numpy())
    return eps[torch.from_numpy(plan.argmax(1)).to(eps.device)]
