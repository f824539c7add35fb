"""From a bare network F(x, c_noise) to a prediction on a path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewstep import nets
from fewstep.errors import UserError
from fewstep.paths import Path, Prediction, like, make_path

PARAMETRISATIONS = ("velocity", "eps", "denoiser")


class Model(nn.Module):
    """A network on a path; `model(x, t)` returns a Prediction.

    parametrisation:
      velocity  F = dx/dt                         c_noise = 999 t (rectified flow's code)
      eps       F = eps                           c_noise = 999 t (DDPM++, arXiv 2011.13456)
      denoiser  x0 = c_skip x + c_out F(c_in x)   c_noise = ln(sigma) / 4 (EDM, arXiv 2206.00364, table 1; alpha = 1)
    """

    def __init__(self, net: nn.Module, path: Path, parametrisation: str, sigma_data: float = 0.5):
        super().__init__()
        if parametrisation not in PARAMETRISATIONS:
            raise UserError(f"unknown parametrisation {parametrisation!r}; there are {', '.join(PARAMETRISATIONS)}")
        self.net, self.path, self.parametrisation, self.sigma_data = net, path, parametrisation, sigma_data
        self.card: dict[str, Any] = {}  # what `build_model` made it from

    def forward(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Prediction:
        """x [B, ...], t a number, a scalar or [B]; `condition` goes to the network (label, extra)."""
        inputs = x.to(self.dtype)
        times = torch.as_tensor(t, device=x.device).to(self.dtype).expand(len(x))
        if self.parametrisation == "denoiser":
            sd, sigma = self.sigma_data, like(times, inputs)
            norm = torch.sqrt(sigma**2 + sd**2)
            F = self.net(inputs / norm, times.log() / 4, **condition)
            return Prediction(self.path, x, t, x0=(sd**2 / norm**2 * inputs + sigma * sd / norm * F).to(x.dtype))
        F = self.net(inputs, 999 * times, **condition).to(x.dtype)
        return Prediction(self.path, x, t, **{self.parametrisation: F})

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
