"""Gaussian mixtures with their exact field, so that discretisation error is seen apart from training error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.data.dataset import Dataset
from fewstep.paths import Path, Prediction, float64, like
from fewstep.seeds import generator

N_REFERENCE = 2000


@dataclass(frozen=True)
class Mixture:
    """sum_k weights_k N(means_k, variance I); weights [K], means [K, d], both float64."""

    weights: Tensor
    means: Tensor
    variance: float

    @classmethod
    def of(cls, weights: Sequence[float], means: Sequence[Sequence[float]], variance: float) -> Mixture:
        """A mixture from plain numbers."""
        return cls(torch.tensor(weights, dtype=torch.float64), torch.tensor(means, dtype=torch.float64), variance)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """n samples [n, d], float32."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=rng)
        noise = torch.randn(n, self.means.shape[1], generator=rng)
        return self.means[which].float() + self.variance**0.5 * noise

    def exact(self, path: Path):
        """The predictor of E[x0 | x_t] and E[eps | x_t] on `path`, in x's dtype; regular at both ends."""

        def predict(x: Tensor, t: float | Tensor) -> Prediction:
            flat = x.flatten(1)
            w, m = self.weights.to(flat), self.means.to(flat)
            time = float64(t)
            alpha, sigma = (like(coefficient(time), flat).unsqueeze(-1) for coefficient in (path.alpha, path.sigma))
            variance = alpha**2 * self.variance + sigma**2
            residual = flat.unsqueeze(1) - alpha * m  # [B, K, d]
            logits = w.log() - residual.square().sum(-1, keepdim=True).div(2 * variance).squeeze(-1)
            posterior = logits.softmax(1).unsqueeze(-1)
            x0 = (posterior * (m + alpha * self.variance / variance * residual)).sum(1)
            eps = (posterior * (sigma / variance * residual)).sum(1)
            return Prediction(path, x, t, x0=x0.view_as(x), eps=eps.view_as(x))

        return predict


def _dataset(name: str, mixture: Mixture) -> Dataset:
    return Dataset(name, mixture.draw(N_REFERENCE, generator("data", name)), mixture.draw, mixture.exact)


def two_dimensional() -> Dataset:
    """Five modes of unequal weight, within about [-1, 1]^2."""
    means = [[0.8, 0.1], [0.1, 0.7], [-0.7, 0.5], [-0.5, -0.6], [0.4, -0.8]]
    return _dataset("mixture", Mixture.of([0.3, 0.25, 0.2, 0.15, 0.1], means, 0.01))


def sixty_four_dimensional() -> Dataset:
    """Ten modes in 64 dimensions, as many as an 8×8 image has pixels."""
    means = 0.6 * torch.randn(10, 64, generator=generator("data", "mixture64", "means"), dtype=torch.float64)
    return _dataset("mixture64", Mixture(torch.full((10,), 0.1, dtype=torch.float64), means, 0.02))
