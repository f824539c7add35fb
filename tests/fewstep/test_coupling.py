"""Minibatch optimal transport against brute force."""

from itertools import permutations

import pytest
import torch

from fewstep.coupling import couple
from fewstep.errors import UserError


def cost(x0, eps):
    return (x0 - eps).square().sum().item()


def test_ot_finds_the_cheapest_of_all_pairings():
    g = torch.Generator().manual_seed(1)
    x0, eps = (torch.randn(6, 1, 2, 2, generator=g) for _ in range(2))
    paired = couple(x0, eps, "ot")
    assert cost(x0, paired) == pytest.approx(min(cost(x0, eps[list(p)]) for p in permutations(range(6))), rel=1e-6)
    assert torch.equal(paired.flatten(1).sort(0).values, eps.flatten(1).sort(0).values)  # every point is kept


def test_independent_leaves_the_pairs_alone_and_others_are_refused():
    eps = torch.randn(4, 2)
    assert couple(torch.randn(4, 2), eps, "independent") is eps
    with pytest.raises(UserError, match="independent, ot"):
        couple(eps, eps, "sinkhorn")
