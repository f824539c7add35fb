"""Adams–Bashforth, DEIS and iPNDM against diffusers."""

import numpy as np
import pytest
import torch
from peers import run
from problem import BAR, LATENTS, QUIET, difference, diffusers, field_on, nodes, ours

from fewstep import registry
from fewstep.paths import SI

D = diffusers()
pytestmark = QUIET
N = 6


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("end", ["t_min", "zero"])
def test_adams_bashforth(order, end):
    """LMSDiscreteScheduler integrates the Lagrange polynomials in sigma numerically."""
    grid = nodes("edm", N, "karras", end)
    theirs = run(D.LMSDiscreteScheduler(), field_on("edm"), LATENTS, grid, order=order)
    assert difference(ours("adams_bashforth", field_on("edm", grid), N, order=order, end=end), theirs) < BAR


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_deis_rho(degree):
    """rhoAB is that rule too, on a field without scaling."""
    grid = nodes("edm", N, "karras")
    theirs = run(D.LMSDiscreteScheduler(), field_on("edm"), LATENTS, grid, order=degree + 1)
    assert difference(ours("deis", field_on("edm", grid), N, order=degree, basis="rho"), theirs) < BAR


def test_deis_0():
    grid = nodes("vp", N, "vp_quadratic")
    theirs = run(D.DEISMultistepScheduler(solver_order=1), field_on("vp"), LATENTS, grid)
    assert difference(ours("deis", field_on("vp", grid), N, order=0), theirs) < BAR


@pytest.mark.parametrize("order", [2, 3])
def test_deis_differs_in_the_variable_of_its_polynomials(order, monkeypatch):
    """arXiv 2204.13902 integrates C_j = int L_j d rho, rho = sigma / alpha, for Lagrange polynomials L_j in t (tAB) or
    in rho (rhoAB). DEISMultistepScheduler offers "logrho" alone: L_j in ln rho.

    With ln rho for t our rule gives diffusers' samples. (It also lowers the last orders, which is switched off here.)
    """
    grid = nodes("vp", N, "vp_quadratic")
    theirs = run(D.DEISMultistepScheduler(solver_order=order, lower_order_final=False), field_on("vp"), LATENTS, grid)
    for basis in ("t", "rho"):
        mine = ours("deis", field_on("vp", grid), N, order=order - 1, basis=basis)
        assert difference(mine, theirs) > 10 * BAR
    monkeypatch.setattr(registry.get("deis", "solver").load(), "vp_time", lambda vp, rho: np.log(rho))
    assert difference(ours("deis", field_on("vp", grid), N, order=order - 1), theirs) < BAR


@pytest.mark.parametrize("end", ["t_min", "zero"])
def test_ipndm(end):
    """With our nodes in its tables: the weights of a uniform history on eps, in a DDIM step."""
    grid = nodes("vp", N, "quadratic", end)
    theirs = run(D.IPNDMScheduler(), field_on("vp"), LATENTS, grid)
    assert difference(ours("ipndm", field_on("vp", grid), N, order=4, end=end), theirs) < BAR


class Trigonometric(SI):
    """IPNDMScheduler's own path, alpha = cos(pi t / 2) and sigma = sin(pi t / 2), in VP's natural coordinates."""

    scale = SI.alpha

    def clock(self, t):
        return self.sigma(t) / self.alpha(t)

    def slope(self, prediction):
        return prediction.eps

    def time_at_clock(self, clock):
        return torch.atan(clock) * 2 / torch.pi


def test_ipndm_differs_on_its_own_grid():
    """Its own nodes are sigma = sin^2(pi s / 2) for s from 1 to 0; its timesteps are the t of our SI path.

    1. There it acts on eps in DDIM's steps (arXiv 2204.13902, §3.3), as ours does on VP; on SI ours acts on dx/dt in t.
    2. It starts at alpha = 0, where it takes x_0 = (x - sigma eps) / alpha (arXiv 2010.02502, eq. 12) for 0.
    With both in our rule, the samples agree.
    """
    scheduler = D.IPNDMScheduler()
    scheduler.set_timesteps(N)
    own = torch.sin(torch.linspace(1, 0, N + 1, dtype=torch.float64) * torch.pi / 2) ** 2
    torch.testing.assert_close(scheduler.betas.double(), own, rtol=1e-5, atol=1e-6)
    grid = torch.asin(own) * 2 / torch.pi
    torch.testing.assert_close(scheduler.timesteps.double(), grid[:-1], rtol=1e-5, atol=1e-6)
    theirs = run(scheduler, field_on("si"), LATENTS, grid)
    assert difference(ours("ipndm", field_on("si", grid), N), theirs) > 100 * BAR

    path = Trigonometric()
    finite = torch.cat([torch.tensor([1 - 1e-5], dtype=torch.float64), grid[1:]])  # x / alpha needs alpha > 0
    field = field_on(path, finite)
    assert difference(ours("ipndm", field, N), theirs) > BAR
    predict = field.predict

    def without_data_at_first(x, t):
        p = predict(x, t)
        return type(p)(path, x, t, eps=x / path.sigma(p.t)) if float(t) > 0.999 else p

    field = field_on(path, finite)
    field.predict = without_data_at_first
    assert difference(ours("ipndm", field, N), theirs) < BAR
