"""SiLU and linear maps whose result for a sample does not depend on its place in the batch, to the last bit.

The harness promises that a permuted batch gives the permuted result. PyTorch's CPU kernels break that in two places, by
one unit in the last place: they finish an elementwise SiLU with scalar code that rounds otherwise than the vector code,
and matrix products with very few columns take kernels that treat their last rows in another order.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

LANES = 32  # float32 numbers that one step of the widest vectorised loop takes (two AVX-512 registers)
COLUMNS = 16  # from this many output columns on, matrix products treat all rows alike


def silu(x: torch.Tensor) -> torch.Tensor:
    """x sigmoid(x), [B, …] -> the same shape."""
    if x.is_cpu and x[:1].numel() % LANES:
        return x / (1 + torch.exp(-x))  # exp rounds alike in both kinds of code; division and sum are exact by IEEE
    return F.silu(x)


class Rowwise(nn.Module):
    """A network whose output for each row of its batch depends on that row alone: it may see a batch in parts.

    Of its arguments, every tensor as long as the batch is taken to have a row for each sample.

    how    it is called, how(net, *inputs, **named), as long as `fewstep.splitting` lasts; None: with the whole batch
    moves  whether a call moves its buffers, as spectral norm does: it's then called once for all rows of a process
    """

    how: ClassVar[Callable[..., Any] | None] = None
    moves = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        if Rowwise.how is None:
            return super().__call__(*inputs, **named)
        return Rowwise.how(self, *inputs, **named)


class SiLU(nn.Module):
    """`silu` as a layer."""

    def forward(self, x):
        return silu(x)


class Linear(nn.Linear):
    """nn.Linear that on a CPU computes with at least 16 output columns, padded by zeros that are cut off again."""

    def forward(self, x):
        short = COLUMNS - self.out_features
        if short <= 0 or not x.is_cpu:
            return super().forward(x)
        bias = None if self.bias is None else F.pad(self.bias, (0, short))
        return F.linear(x, F.pad(self.weight, (0, 0, 0, short)), bias)[:, : self.out_features]
