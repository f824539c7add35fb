"""MAC's coefficient: weights w of a few sines warp the time of every dimension on its own, t -> t_gamma(t) in [0, T]^d.

    tau(t)  = (t / T)^(1/q)
    P_f(t)  = sum_{m = 1 … M} w_f[m] m^(-k) sin(pi m tau),  P_g(t) likewise with w_g
    f       = 1 - t/T + P_f^2
    g       =     t/T + P_g^2
    t_gamma = T g / (f + g),  gamma_0 = alpha(t_gamma),  gamma_1 = sigma(t_gamma)

w = 0 is the plain path. The sines vanish at both ends, so gamma meets alpha and sigma there for any w; f, g > 0 keep
t_gamma inside (0, T) between them; it need not rise with t. On EDM's path this is the released code of arXiv 2404.14161
(T = 80, M = 5, q = 7, k = 0). How the paper bends the other paths is not public: the warped time there is our reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.paths import EDM, Path, float64, like

AXES = "CHW"


def basis(t: float | Tensor, T: float, M: int, q: float, k: float) -> Tensor:
    """m^(-k) sin(pi m tau) for m = 1 … M, in float64: [M], or [B, M] for times [B]. Exactly 0 at t = 0 and t = T."""
    tau = (float64(t).double() / T) ** (1 / q)
    m = torch.arange(1, M + 1, dtype=torch.float64, device=tau.device)
    return m**-k * sin_pi(m * tau[..., None])


def sin_pi(x: Tensor) -> Tensor:
    """sin(pi x), exactly 0 at whole numbers (where sin of the rounded pi x is some 1e-16)."""
    n = x.round()
    return (1 - 2 * (n % 2)) * torch.sin(math.pi * (x - n))


def warp(t: float | Tensor, w: Tensor, T: float, q: float, k: float) -> Tensor:
    """t_gamma [B, *shape] at time t, a number, a scalar or [B], under the weights w [B, 2, M, *shape] of f and g.

    Coefficients of t are computed in float64 and applied in w's dtype.
    """
    t = float64(t).double()
    b = basis(t, T, w.shape[2], q, k)
    # Term by term: a sum's or a product's own kernel may round by a sample's place in the batch.
    P_f, P_g = sum(like(b[..., m], w_m) * w_m for m, w_m in enumerate(w.unbind(2))).unbind(1)
    f = like(1 - t / T, P_f) + P_f.square()
    g = like(t / T, P_g) + P_g.square()
    return T * g / (f + g)


def default_warp(path: Path) -> float:
    """The exponent q: 7 on EDM's path, whose steps lie on the grid of rho = 7; 1 where steps are uniform in [0, 1]."""
    return 7.0 if isinstance(path, EDM) else 1.0


def own_shape(shape: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """`shape` with 1 for each axis over which coefficients are shared.

    axes  of an image [C, H, W]: the letters of CHW that keep coefficients of their own, in any order, "" for none;
          of a vector [d]: any of these letters for coefficients of its own in every dimension, "" for shared ones
    Raises UserError for another letter.
    """
    if set(axes) - set(AXES):
        raise UserError(f"`axes` is made of the letters of {AXES}, or empty for one coefficient; got {axes!r}")
    if len(shape) == 1:
        return tuple(shape) if axes else (1,)
    return tuple(n if axis in axes else 1 for axis, n in zip(AXES, shape, strict=True))


def random_weights(
    n: int,
    shape: tuple[int, ...],
    M: int,
    s: float,
    rng: torch.Generator,
    lpf: Callable[[Tensor], Tensor] | None = None,
    axes: str = AXES,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Weights [n, 2, M, *shape] of Gamma_h, on which gamma pre-training averages: s LPF(U(-1, 1)).

    lpf  the coefficient network's own filter (`network.LowPass`), which also says how much margin it crops; None for
         vectors. It filters every map by itself. The released sampler's kernel has one output channel, which averages
         all 6 M maps into one that f, g, colours and basis functions share; the released network does not, nor do we.

    Numbers are drawn from `rng`, a CPU generator, one a coefficient of its own (see `own_shape`).
    """
    own = own_shape(shape, axes)
    drawn = lpf.padded(own) if lpf else own
    w = (2 * torch.rand(n, 2, M, *drawn, generator=rng) - 1).to(device)
    return s * (lpf(w) if lpf else w).expand(n, 2, M, *shape)
