"""The noise levels of a DDPM in discrete time, so that its network can be asked at any time of a continuous path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Timesteps:
    """`count` betas, linear from `first` to `last` (Ho et al., arXiv 2006.11239, §4).

    Step i = 0, 1, … has alpha_i^2 = (1 - beta_0) … (1 - beta_i), sigma_i^2 = 1 - alpha_i^2. The continuous VP path of
    these betas is close, but not the same: at t = (i + 1) / 1000 its alpha^2 is off by up to 0.0008 (at i = 140), its
    log(alpha / sigma) by up to 0.047 (at i = 0), and the step of its noise level by up to 3.4 (at the end). So a
    network is not told 1000 t - 1, but the step of the sample's own noise level: i itself at alpha_i, and in between
    linear in log alpha, as in DPM-Solver's code (arXiv 2206.00927). The path's t_min and t_max are at steps 0.08 and
    995.6.
    """

    first: float = 1e-4
    last: float = 0.02
    count: int = 1000

    @cached_property
    def log_alphas(self) -> Tensor:
        """log alpha_i, float64 [count], decreasing."""
        betas = torch.linspace(self.first, self.last, self.count, dtype=torch.float64)
        return torch.log1p(-betas).cumsum(0) / 2

    def step(self, log_alpha: Tensor) -> Tensor:
        """The step, a fraction between two, where log alpha is this; beyond the first or last one, that one."""
        known = self.log_alphas.to(log_alpha.device)
        right = torch.searchsorted(-known, -log_alpha.double().contiguous()).clamp(1, self.count - 1)
        share = (log_alpha - known[right - 1]) / (known[right] - known[right - 1])
        return right - 1 + share.clamp(0, 1)
