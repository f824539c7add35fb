"""The codebook {0, …, L - 1}^d and its quantiser, a modified FSQ (arXiv 2409.17487, §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.errors import UserError

MOST_CELLS = 2**24  # a weight for each is kept while training


@dataclass(frozen=True)
class Codebook:
    """All codes of `d` digits with `L` levels each. Raises UserError for L < 2, d < 1 or more than 2^24 cells."""

    L: int
    d: int

    def __post_init__(self):
        if self.L < 2:
            raise UserError(f"a code needs levels of 2 or more, not {self.L}")
        if self.d < 1:
            raise UserError(f"a code needs dimensions of 1 or more, not {self.d}")
        if self.L**self.d > MOST_CELLS:
            raise UserError(
                f"a codebook of {self.L}^{self.d} cells is larger than 2^24; choose fewer levels or dimensions"
            )

    @property
    def cells(self) -> int:
        """|C| = L^d."""
        return self.L**self.d

    def quantise(self, y: Tensor) -> Tensor:
        """y_q = y + sg(f(y) - y) with f(y) = floor(L sigmoid(y)), [B, d]: the gradient passes to y as it is.

        In float32 the sigmoid reaches 1 above 17, hence the clamp, and y + (f - y) isn't f, hence the order.
        """
        f = torch.floor(self.L * torch.sigmoid(y)).clamp(max=self.L - 1)
        return f.detach() + (y - y.detach())

    def index(self, code: Tensor) -> Tensor:
        """sum_i code_i L^i of codes [B, d], int64 [B]."""
        place = self.L ** torch.arange(self.d, device=code.device)
        return (code.detach().round().long() * place).sum(1)

    def code(self, index: Tensor) -> Tensor:
        """The inverse of `index`: float32 [B, d]."""
        place = self.L ** torch.arange(self.d, device=index.device)
        return (index[:, None] // place % self.L).float()
