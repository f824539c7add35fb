"""Zero-shot editing, Algorithm 2 of QAC (arXiv 2409.17487), which is Algorithm 4 of consistency models with a code.

Noise is added and removed again and again, less of it each time, and what is known is put back after every step. A
model that needs no code is the special case without a condition; x ~ N(x, t^2 I) reads x_t = alpha x + sigma eps on
any path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from fewstep import schedules
from fewstep.editing.operators import Operator
from fewstep.field import Field
from fewstep.paths import Path

Encode = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


def levels(path: Path, N: int) -> list[float]:
    """The times t_1 > … > t_N > 0 of a path's Karras grid, from its largest noise level to its smallest."""
    return schedules.times(path, N, "karras", schedules.ZERO)[:-1].tolist()


@torch.no_grad()
def edit(field: Field, encode: Encode, z: Tensor, operator: Operator, times: Iterable[float]) -> Tensor:
    """Images [B, C, H, W] that agree with z [B, C, H, W] in what the operator knows; one network call a time.

    encode   x [B, …], eps [B, …] -> (noise, condition of the network); the condition is the code of the image so far
    times    t_1 > … > t_N > 0, see `levels`
    The noise comes from the field's random streams, one a sample and step. Raises BudgetExceeded.

    More steps make what is generated fit better: of Gaussian data the mean of all edits tends to the conditional mean.
    """
    x = z = operator.known(z)
    for n, t in enumerate(times, start=1):
        eps = field.noise(f"edit {n}", x)
        # The noise is a fresh unit one, as printed, also for a model that has learnt which noise goes with which image.
        field.condition = {**field.condition, **encode(x, eps)[1]}
        x = field(field.path.interpolate(x, eps, t), t).x0
        x = operator.join(z, x)
    return x
