"""How often each cell of a codebook is drawn when sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.errors import Diverged, UserError
from fewstep.seeds import SampleRng

ALL_ZERO = "all sampling weights of the codes are zero: the encoder was never trained; fit it again"
USED = 1e-6  # samples a batch from which on a cell counts as used


def counts(index: Tensor, cells: int) -> Tensor:
    """How often each cell occurs among indices [B], float64 [cells]. Raises Diverged where a code was not finite."""
    if index.min() < 0:
        raise Diverged("the encoder's output is not finite")
    return torch.bincount(index, minlength=cells).double()


def shares(w: Tensor) -> Tensor:
    """Weights [cells] that sum to one, float64. Raises UserError when none is positive."""
    total = w.double().sum()
    if not total > 0:
        raise UserError(ALL_ZERO)
    return w.double() / total


def packed(w: Tensor) -> dict[str, Tensor]:
    """The cells with a weight, few of a large codebook, and their shares; on the CPU, where codes are drawn."""
    cells = w.nonzero().flatten()
    return {"cells": cells.cpu(), "shares": shares(w)[cells].cpu()}


def draw(cells: Tensor, shares: Tensor, rng: SampleRng) -> Tensor:
    """A cell for each sample, int64 [B], by inversion: its stream alone decides. Raises UserError without weights."""
    if not shares.sum() > 0:
        raise UserError(ALL_ZERO)
    high, low = rng.rand("code", 2).double().unbind(1)  # 48 bits: 24 are too coarse for the rare cells of 2^20
    ends = shares.double().cumsum(0)
    place = torch.searchsorted(ends, (high + low / 2**24) * ends[-1], right=True)
    return cells[place.clamp(max=len(cells) - 1)]


def entropy(shares: Tensor) -> float:
    """In bits."""
    p = shares[shares > 0]
    return float(-(p * p.log2()).sum())


def used(w: Tensor) -> int:
    """Cells that a batch meets more than a millionth of a time, by the weights as they are."""
    return int((w > USED).sum())


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of the differences of two distributions over the same cells: 0 if equal, 1 if disjoint."""
    return float((p - q).abs().sum() / 2)
