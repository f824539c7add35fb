"""From a bare network F(x, c_noise) to a prediction on a path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep import nets
from fewstep.errors import UserError
from fewstep.paths import Path, Prediction, float64, like, make_path
from fewstep.timesteps import Timesteps

PARAMETRISATIONS = ("velocity", "eps", "denoiser")
RATIO_MIN = 1e-5  # sigma / alpha that a denoiser is told lies between this and its inverse, on paths that reach 0 or 1


class Model(nn.Module):
    """A network on a path; `model(x, t)` returns a Prediction.

    parametrisation:
      velocity  F = dx/dt                         c_noise = 999 t (rectified flow's code)
      eps       F = eps                           c_noise = 999 t (DDPM++, arXiv 2011.13456)
      denoiser  F(x / n, c_noise)                 c_noise = ln(sigma / alpha) / 4 (EDM, arXiv 2206.00364, table 1)
                x0  = sigma_data^2 alpha x / n^2 + sigma sigma_data F / n
                eps =              sigma x / n^2 - alpha sigma_data F / n,   n^2 = sigma^2 + (alpha sigma_data)^2

    n is the standard deviation of x. With alpha = 1 that is EDM's c_skip x + c_out F; on RF it is the velocity that
    arXiv 2405.20320 makes of EDM's network, x / alpha and sigma / alpha being EDM's x and sigma; no end is singular.

    Every dimension of x may have a time of its own (arXiv 2404.14161). The network is then told the mean of a sample's
    times, and what it predicts is read at each dimension's; a `multidimensional` one sees them all, as maps beside x
    (t, or ln(sigma / alpha) / 4), and n is each dimension's own.

    A network that was trained in discrete time on the VP path has `timesteps`, and c_noise is its step at that alpha.
    """

    def __init__(
        self,
        net: nn.Module,
        path: Path,
        parametrisation: str,
        sigma_data: float = 0.5,
        multidimensional: bool = False,
        timesteps: Timesteps | None = None,
    ):
        super().__init__()
        if parametrisation not in PARAMETRISATIONS:
            raise UserError(f"unknown parametrisation {parametrisation!r}; there are {', '.join(PARAMETRISATIONS)}")
        self.net, self.path, self.parametrisation, self.sigma_data = net, path, parametrisation, sigma_data
        self.multidimensional, self.timesteps = multidimensional, timesteps
        self.card: dict[str, Any] = {}  # what `build_model` made it from

    def forward(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Prediction:
        """x [B, ...], t a number, a scalar, [B], or [B, ...] like x; `condition` goes to the network (label, extra)."""
        t = float64(t).to(x.device)
        told = t.flatten(1).mean(1) if t.ndim > 1 else t
        if self.parametrisation == "denoiser":
            return self._denoise(x, t, told, **condition)
        if self.multidimensional:
            condition["maps"] = like(t, x).expand_as(x)
        F = self.net(x.to(self.dtype), self._c_noise(told).expand(len(x)), **condition).to(x.dtype)
        return Prediction(self.path, x, t, **{self.parametrisation: F})

    def _c_noise(self, t: Tensor) -> Tensor:
        if self.timesteps is None:
            return 999 * t.to(self.dtype)
        return self.timesteps.step(self.path.alpha(t.double()).log()).to(self.dtype)

    def _denoise(self, x: Tensor, t: Tensor, told: Tensor, **condition: Tensor) -> Prediction:
        t, told, d = t.double(), told.double(), self.sigma_data  # float64, as a Prediction's coefficients are
        if self.multidimensional:
            condition["maps"] = like(self._log_ratio(t), x).expand_as(x)
        at = t if self.multidimensional else told
        alpha, sigma = self.path.alpha(at), self.path.sigma(at)
        n = torch.sqrt(sigma**2 + (alpha * d) ** 2)
        c_noise = self._log_ratio(told).to(self.dtype).expand(len(x))
        F = self.net((x / like(n, x)).to(self.dtype), c_noise, **condition).to(x.dtype)
        x0 = like(d**2 * alpha / n**2, x) * x + like(sigma * d / n, x) * F
        eps = like(sigma / n**2, x) * x - like(alpha * d / n, x) * F
        # Where a mean stands for the dimensions' own times, x0 is what was predicted, and eps follows at their own.
        return Prediction(self.path, x, t, x0=x0, eps=eps if self.multidimensional or t.ndim < 2 else None)

    def _log_ratio(self, t: Tensor) -> Tensor:
        """ln(sigma / alpha) / 4, within bounds."""
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        return (torch.maximum(sigma, RATIO_MIN * alpha) / torch.maximum(alpha, RATIO_MIN * sigma)).log() / 4

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the network computes in."""
        return next(self.net.parameters()).dtype


def build_model(card: dict[str, Any]) -> Model:
    """A model with fresh weights from its card; the caller forks and seeds the global RNG.

    card: path, parametrisation, sigma_data, net (see `fewstep.nets.build`), shape of a sample, and, if it is true,
    multidimensional, and of a network trained in discrete time, timesteps (see `Timesteps`); the model keeps it.
    """
    shape, multidimensional = tuple(card["shape"]), card.get("multidimensional", False)
    net = nets.build({**card["net"], **({"maps": shape[0]} if multidimensional else {})}, shape)
    timesteps = Timesteps(**card["timesteps"]) if card.get("timesteps") else None
    path, how = make_path(card["path"]), card["parametrisation"]
    model = Model(net, path, how, card["sigma_data"], multidimensional, timesteps)
    model.card = {name: card[name] for name in ("path", "parametrisation", "sigma_data", "net")}
    if multidimensional:
        model.card["multidimensional"] = True
    if timesteps:
        model.card["timesteps"] = dict(card["timesteps"])
    model.card["shape"] = list(card["shape"])
    return model
