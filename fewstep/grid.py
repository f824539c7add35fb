"""A sampling grid in the terms of solvers in lambda: alpha, sigma and lambda = log(alpha / sigma) at every node."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.paths import Path

NO_DATA = 1e-6  # of alpha / (alpha + sigma): below it there is nothing but noise


@dataclass(frozen=True)
class Grid:
    """n + 1 nodes from noise to data as Python floats. lambda is finite but at a last node with sigma = 0."""

    t: list[float]
    alpha: list[float]
    sigma: list[float]
    lam: list[float]

    @classmethod
    def of(cls, path: Path, t: Tensor, end_finite: bool) -> Grid:
        """The grid at times t [n + 1], float64.

        A first node without data (RF and SI at t = 1, lambda = -inf) is moved to the noise fraction u_max, and with
        `end_finite` a last one without noise to u_min: the ends of the published grids in lambda. Where the next
        node lies beyond, it is moved half-way to that.
        """
        t = t.clone()
        if 1 - path.fraction(t[0]) < NO_DATA:
            t[0] = max(path.time_at(torch.tensor(path.u_max, dtype=torch.float64)), (t[0] + t[1]) / 2)
        if end_finite and t[-1] <= 0:
            t[-1] = min(path.time_at(torch.tensor(path.u_min, dtype=torch.float64)), t[-2] / 2)
        return cls(t.tolist(), path.alpha(t).tolist(), path.sigma(t).tolist(), path.lam(t).tolist())

    @property
    def n(self) -> int:
        """The number of steps."""
        return len(self.t) - 1

    @property
    def ratio(self) -> list[float]:
        """sigma / alpha at every node: EDM's sigma."""
        return [sigma / alpha for sigma, alpha in zip(self.sigma, self.alpha, strict=True)]

    def h(self, i: int) -> float:
        """lambda_{i+1} - lambda_i; infinite at a last step to sigma = 0."""
        return self.lam[i + 1] - self.lam[i]
