"""Paths from data (t = 0) to noise (t = t_max): x_t = alpha(t) x_0 + sigma(t) eps, eps ~ N(0, I).

Two changes of variable serve every path:

* the noise fraction u = sigma / (alpha + sigma), which is RF's own time; lambda = log(alpha / sigma) = log((1-u)/u);
* the path's natural coordinates y = x / scale(t) over clock(t), in which a linear ODE rule is applied:
  dx/dt over t for EDM, RF and SI, and eps over sigma / alpha for VP (DDIM, arXiv 2010.02502, eq. 14).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewstep.errors import UserError

HALF_PI = math.pi / 2


def float64(t: float | Tensor) -> Tensor:
    """`t` as a tensor: a Python number becomes float64, a tensor keeps its dtype."""
    return t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


@dataclass(frozen=True)
class Path:
    """Base class. `t_min` is the last time at which a network is called; `u_min`, `u_max` bound lambda."""

    name: str
    t_min: float
    t_max: float

    def alpha(self, t: Tensor) -> Tensor:
        """Weight of the data."""
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        """Weight of the noise."""
        raise NotImplementedError

    def alpha_dot(self, t: Tensor) -> Tensor:
        """d alpha / dt."""
        raise NotImplementedError

    def sigma_dot(self, t: Tensor) -> Tensor:
        """d sigma / dt."""
        raise NotImplementedError

    def time_at(self, u: Tensor) -> Tensor:
        """The time with noise fraction `u` = sigma / (alpha + sigma)."""
        raise NotImplementedError

    def fraction(self, t: float | Tensor) -> Tensor:
        """u = sigma / (alpha + sigma), in [0, 1]."""
        alpha, sigma = self.alpha(float64(t)), self.sigma(float64(t))
        return sigma / (alpha + sigma)

    def lam(self, t: float | Tensor) -> Tensor:
        """lambda(t) = log(alpha / sigma), half the log signal-to-noise ratio."""
        return torch.log(self.alpha(float64(t))) - torch.log(self.sigma(float64(t)))

    def time_at_lambda(self, lam: float | Tensor) -> Tensor:
        """The inverse of `lam`."""
        return self.time_at(torch.sigmoid(-float64(lam)))

    def time_at_ratio(self, ratio: Tensor) -> Tensor:
        """The time with sigma / alpha = `ratio`, EDM's sigma."""
        return self.time_at(ratio / (1 + ratio))

    @cached_property
    def u_max(self) -> float:
        """Largest noise fraction with a lambda that solvers in lambda start from."""
        return float(self.fraction(self.t_max))

    @cached_property
    def u_min(self) -> float:
        """Smallest noise fraction with a lambda that solvers in lambda end at."""
        return float(self.fraction(self.t_min))

    def scale(self, t: Tensor) -> Tensor:
        """Natural coordinates: y = x / scale."""
        return torch.ones_like(t)

    def clock(self, t: Tensor) -> Tensor:
        """Natural coordinates: the variable that y is integrated over."""
        return t

    def slope(self, prediction: Prediction) -> Tensor:
        """Natural coordinates: dy / d clock."""
        return prediction.velocity

    def time_at_clock(self, clock: Tensor) -> Tensor:
        """Natural coordinates: the inverse of `clock`."""
        return clock

    def interpolate(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma eps; `t` is a scalar or [B]."""
        t = like(t, x0)
        return self.alpha(t) * x0 + self.sigma(t) * eps

    def velocity(self, x0: Tensor, eps: Tensor, t: float | Tensor) -> Tensor:
        """d x_t / dt of one pair: alpha' x_0 + sigma' eps; `t` is a scalar or [B]."""
        t = like(t, x0)
        return self.alpha_dot(t) * x0 + self.sigma_dot(t) * eps


@dataclass(frozen=True)
class EDM(Path):
    """Variance exploding, t = sigma (Karras et al., arXiv 2206.00364)."""

    name: str = "edm"
    t_min: float = 0.002
    t_max: float = 80.0

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return t

    def alpha_dot(self, t):
        return torch.zeros_like(t)

    def sigma_dot(self, t):
        return torch.ones_like(t)

    def time_at(self, u):
        return u / (1 - u)


@dataclass(frozen=True)
class _UnitTime(Path):
    """t in [0, 1] with pure noise at 1 and pure data at 0; lambda is bounded to noise fractions of 0.1 % and 99.9 %."""

    t_min: float = 0.0
    t_max: float = 1.0

    @property
    def u_max(self) -> float:
        return 0.999

    @property
    def u_min(self) -> float:
        return 0.001


@dataclass(frozen=True)
class RF(_UnitTime):
    """Straight line (rectified flow, arXiv 2209.03003; flow matching, arXiv 2210.02747)."""

    name: str = "rf"

    def alpha(self, t):
        return 1 - t

    def sigma(self, t):
        return t

    def alpha_dot(self, t):
        return -torch.ones_like(t)

    def sigma_dot(self, t):
        return torch.ones_like(t)

    def time_at(self, u):
        return u


@dataclass(frozen=True)
class SI(_UnitTime):
    """Trigonometric stochastic interpolant (Albergo & Vanden-Eijnden, arXiv 2209.15571)."""

    name: str = "si"

    def alpha(self, t):
        return torch.cos(HALF_PI * t)

    def sigma(self, t):
        return torch.sin(HALF_PI * t)

    def alpha_dot(self, t):
        return -HALF_PI * torch.sin(HALF_PI * t)

    def sigma_dot(self, t):
        return HALF_PI * torch.cos(HALF_PI * t)

    def time_at(self, u):
        return torch.atan2(u, 1 - u) / HALF_PI


@dataclass(frozen=True)
class VP(Path):
    """Variance preserving DDPM in continuous time (Song et al., arXiv 2011.13456), linear beta(t)."""

    name: str = "vp"
    t_min: float = 1e-3
    t_max: float = 1.0
    beta_d: float = 19.9
    beta_min: float = 0.1

    @classmethod
    def through(cls, first: float, last: float, t_min: float = 1e-3) -> VP:
        """The VP path with sigma / alpha = `first` at t = 1 and `last` at t_min (diff-sampler's fit)."""
        growth, left = math.log1p(first**2), math.log1p(last**2)
        beta_d = 2 * (left / t_min - growth) / (t_min - 1)
        if beta_d <= 0:
            raise UserError(f"sigma / alpha from {first:g} to {last:g} is too narrow for a schedule in VP time")
        return cls(t_min=t_min, beta_d=beta_d, beta_min=growth - beta_d / 2)

    def _beta(self, t):
        return self.beta_d * t + self.beta_min

    def _log_growth(self, t):
        """log(1 + sigma^2 / alpha^2), the integral of beta."""
        return 0.5 * self.beta_d * t**2 + self.beta_min * t

    def alpha(self, t):
        return torch.exp(-0.5 * self._log_growth(t))

    def sigma(self, t):
        return torch.sqrt(-torch.expm1(-self._log_growth(t)))

    def alpha_dot(self, t):
        return -0.5 * self._beta(t) * self.alpha(t)

    def sigma_dot(self, t):
        return 0.5 * self._beta(t) * self.alpha(t) ** 2 / self.sigma(t)

    def time_at(self, u):
        growth = torch.log1p((u / (1 - u)) ** 2)
        return 2 * growth / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * self.beta_d * growth))

    def scale(self, t):
        return self.alpha(t)

    def clock(self, t):
        return self.sigma(t) / self.alpha(t)

    def slope(self, prediction):
        return prediction.eps

    def time_at_clock(self, clock):
        return self.time_at_ratio(clock)


PATHS: dict[str, type[Path]] = {"edm": EDM, "rf": RF, "si": SI, "vp": VP}


def make_path(name: str) -> Path:
    """The path called `name`; UserError lists the names."""
    if name not in PATHS:
        raise UserError(f"unknown path {name!r}; there are {', '.join(PATHS)}")
    return PATHS[name]()


def like(t: float | Tensor, x: Tensor) -> Tensor:
    """`t` in x's dtype and device, shaped to broadcast over x [B, ...]: a number, a scalar, [B], or [B, ...] like x."""
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    return t if t.ndim in (0, x.ndim) else t.reshape(-1, *[1] * (x.ndim - 1))


class Prediction:
    """What one network call says about x_t, in the three equivalent forms x0, eps and velocity dx/dt.

    Give what the network predicts; the other forms follow exactly from x = alpha x0 + sigma eps and
    dx/dt = alpha' x0 + sigma' eps, and are computed only when asked for. All have the shape of `x`.
    """

    def __init__(
        self,
        path: Path,
        x: Tensor,
        t: float | Tensor,
        *,
        x0: Tensor | None = None,
        eps: Tensor | None = None,
        velocity: Tensor | None = None,
    ):
        if x0 is None and eps is None and velocity is None:
            raise ValueError("a prediction needs x0, eps or velocity")
        self.path, self.x = path, x
        # Coefficients in float64: near the ends alpha or sigma is a difference of close numbers.
        self.t = torch.as_tensor(t, dtype=torch.float64)
        self._x0, self._eps, self._velocity = x0, eps, velocity
        # Always convert from what was given: a derived form may be singular (x0 from eps where alpha = 0).
        self._from_velocity = x0 is None and eps is None

    def _at(self, coefficient) -> Tensor:
        return like(coefficient(self.t), self.x)

    def _wronskian(self) -> Tensor:
        p, t = self.path, self.t
        return like(p.alpha(t) * p.sigma_dot(t) - p.alpha_dot(t) * p.sigma(t), self.x)

    @property
    def x0(self) -> Tensor:
        """E[x_0 | x_t]."""
        if self._x0 is None:
            p = self.path
            if self._from_velocity:
                self._x0 = (self._at(p.sigma_dot) * self.x - self._at(p.sigma) * self._velocity) / self._wronskian()
            else:
                self._x0 = (self.x - self._at(p.sigma) * self._eps) / self._at(p.alpha)
        return self._x0

    @property
    def eps(self) -> Tensor:
        """E[eps | x_t]."""
        if self._eps is None:
            p = self.path
            if self._from_velocity:
                self._eps = (self._at(p.alpha) * self._velocity - self._at(p.alpha_dot) * self.x) / self._wronskian()
            else:
                self._eps = (self.x - self._at(p.alpha) * self._x0) / self._at(p.sigma)
        return self._eps

    @property
    def velocity(self) -> Tensor:
        """dx/dt along the probability-flow ODE."""
        if self._velocity is None:
            self._velocity = self._at(self.path.alpha_dot) * self.x0 + self._at(self.path.sigma_dot) * self.eps
        return self._velocity
