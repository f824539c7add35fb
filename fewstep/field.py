"""The metered field: what a sampler may ask, and how often."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fewstep import schedules
from fewstep.errors import BudgetExceeded, UserError
from fewstep.paths import Path, Prediction, like

Predictor = Callable[..., Prediction]
AUTO = "auto"


class Field:
    """A model as samplers see it: counted calls, a budget, the path and the time grid.

    predict    a Model or anything like it: predict(x, t, **condition) -> Prediction
    schedule   the grid that `schedule="auto"` stands for
    timesteps  n -> n + 1 times, where an accelerator brings a grid of its own; it then replaces every grid
    budget     calls allowed; the next one raises BudgetExceeded
    record     keep (t, x, velocity) of every call in `trajectory`
    """

    def __init__(
        self,
        predict: Predictor,
        path: Path,
        schedule: str,
        *,
        budget: int | None = None,
        condition: dict[str, Tensor] | None = None,
        timesteps: Callable[[int], Tensor] | None = None,
        record: bool = False,
    ):
        self.predict, self.path, self.schedule = predict, path, schedule
        self.budget, self.condition, self.timesteps = budget, condition or {}, timesteps
        self.calls = 0
        self.trajectory: list[tuple[Tensor, Tensor, Tensor]] | None = [] if record else None

    @torch.no_grad()
    def __call__(self, x: Tensor, t: float | Tensor) -> Prediction:
        """One network call: the prediction at x [B, ...] and time t. Raises BudgetExceeded."""
        if self.budget is not None and self.calls >= self.budget:
            raise BudgetExceeded(f"call {self.calls + 1} of the network, but the budget is {self.budget} NFE")
        self.calls += 1
        prediction = self.predict(x, t, **self.condition)
        if self.trajectory is not None:
            self.trajectory.append((torch.as_tensor(t, dtype=torch.float64), x, prediction.velocity))
        return prediction

    def times(self, n: int, schedule: str = AUTO, end: str = schedules.ZERO) -> Tensor:
        """The n + 1 times of n steps (see `fewstep.schedules.times`)."""
        if self.timesteps is not None:
            return self.timesteps(n)
        return schedules.times(self.path, n, self.schedule if schedule == AUTO else schedule, end)

    def start(self, latents: Tensor, t: float | Tensor) -> Tensor:
        """Unit latents [B, ...] scaled to the path's noise at time t, the first node of the grid."""
        return like(self.path.sigma(torch.as_tensor(t, dtype=torch.float64)), latents) * latents


def steps_for(nfe: int, calls_per_step: int) -> int:
    """How many steps of `calls_per_step` network calls make exactly `nfe`; UserError when none does."""
    if nfe < calls_per_step or nfe % calls_per_step:
        raise UserError(f"NFE {nfe} is not a multiple of {calls_per_step}, the calls that a step takes")
    return nfe // calls_per_step
