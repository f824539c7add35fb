"""DEIS (arXiv 2204.13902): the noise prediction's polynomial through its last values, integrated exactly.

    y_{i+1} = y_i + sum_j C_j eps_{i-j},   C_j = int_{rho_i}^{rho_{i+1}} L_j d rho,   y = x / alpha, rho = sigma / alpha

tAB takes L_j as polynomials in the time of the VP path with the same range of rho, rhoAB in rho itself.
"""

import torch

from fewstep.errors import UserError
from fewstep.field import steps_for
from fewstep.multistep import check_order, combine, lagrange_integrals
from fewstep.paths import VP
from fewstep.schedules import ratios, spec_of
from fewstep.shortcuts import model_of

BASES = ("t", "rho")


def sample(field, latents, nfe, order=3, basis="t", schedule="vp_quadratic", end="t_min", afs=False):
    check_order("deis", order, (0, 1, 2, 3))
    if basis not in BASES:
        raise UserError(f"deis has the bases {', '.join(BASES)}; got {basis!r}")
    model = model_of(field, afs)
    grid = field.grid(steps_for(nfe, 1, end, afs), schedule, end)
    vp, rho = VP.through(*ratios(field.path, spec_of(schedule))), grid.ratio
    at = {"t": lambda rho: vp_time(vp, rho), "rho": lambda rho: rho}[basis]
    y = field.start(latents, grid.t[0]) / grid.alpha[0]
    eps, nodes = [], []
    for i in range(grid.n):
        eps = [model(grid.alpha[i] * y, grid.t[i]).eps, *eps][: order + 1]
        nodes = [float(at(rho[i])), *nodes][: order + 1]
        y = y + combine(lagrange_integrals(nodes, rho[i], rho[i + 1], at), eps)
    return grid.alpha[grid.n] * y


def vp_time(vp, rho):
    """The time at which sigma / alpha = rho."""
    return vp.time_at_ratio(torch.as_tensor(rho, dtype=torch.float64)).numpy()
