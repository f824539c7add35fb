"""From a bare network F(x, c_noise) to a prediction on a path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep import nets
from fewstep.errors import UserError
from fewstep.paths import Path, Prediction, like, make_path

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
    """

    def __init__(self, net: nn.Module, path: Path, parametrisation: str, sigma_data: float = 0.5):
        super().__init__()
        if parametrisation not in PARAMETRISATIONS:
            raise UserError(f"unknown parametrisation {parametrisation!r}; there are {', '.join(PARAMETRISATIONS)}")
        self.net, self.path, self.parametrisation, self.sigma_data = net, path, parametrisation, sigma_data
        self.card: dict[str, Any] = {}  # what `build_model` made it from

    def forward(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Prediction:
        """x [B, ...], t a number, a scalar or [B]; `condition` goes to the network (label, extra)."""
        if self.parametrisation == "denoiser":
            return self._denoise(x, t, **condition)
        times = torch.as_tensor(t, device=x.device).to(self.dtype).expand(len(x))
        F = self.net(x.to(self.dtype), 999 * times, **condition).to(x.dtype)
        return Prediction(self.path, x, t, **{self.parametrisation: F})

    def _denoise(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Prediction:
        times, d = torch.as_tensor(t, dtype=torch.float64, device=x.device), self.sigma_data
        alpha, sigma = self.path.alpha(times), self.path.sigma(times)  # in float64, as a Prediction's are
        n = torch.sqrt(sigma**2 + (alpha * d) ** 2)
        ratio = torch.maximum(sigma, RATIO_MIN * alpha) / torch.maximum(alpha, RATIO_MIN * sigma)
        c_noise = (ratio.log() / 4).to(self.dtype).expand(len(x))
        F = self.net((x / like(n, x)).to(self.dtype), c_noise, **condition).to(x.dtype)
        x0 = like(d**2 * alpha / n**2, x) * x + like(sigma * d / n, x) * F
        eps = like(sigma / n**2, x) * x - like(alpha * d / n, x) * F
        return Prediction(self.path, x, t, x0=x0, eps=eps)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the network computes in."""
        return next(self.net.parameters()).dtype


def build_model(card: dict[str, Any]) -> Model:
    """A model with fresh weights from its card; the caller forks and seeds the global RNG.

    card: path, parametrisation, sigma_data, net (see `fewstep.nets.build`), shape of a sample; the model keeps it.
    """
    net = nets.build(card["net"], tuple(card["shape"]))
    model = Model(net, make_path(card["path"]), card["parametrisation"], card["sigma_data"])
    model.card = {name: card[name] for name in ("path", "parametrisation", "sigma_data", "net")}
    model.card["shape"] = list(card["shape"])
    return model
