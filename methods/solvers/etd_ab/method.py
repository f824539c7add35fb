"""Exponential Adams–Bashforth in lambda (Hochbruck & Ostermann 2010, §2.5, variable steps): D's polynomial through the
last values is integrated exactly. The consistent form of DPM-Solver++(2M) and (3M).

    x_{i+1} = sigma_{i+1} / sigma_i x_i + alpha_{i+1} sum_j D_{i-j} int e^{lambda - lambda_{i+1}} L_j(lambda) d lambda
"""

import numpy as np

from fewstep.field import steps_for
from fewstep.multistep import check_order, combine, lagrange_integrals, order_of_step
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, order=3, schedule="lambda", end="t_min", afs=False, thresholding=None,
           lower_order_final=True):  # fmt: skip
    check_order("etd_ab", order, (1, 2, 3, 4))
    model = model_of(field, afs, thresholding)
    grid = field.grid(steps_for(nfe, 1, end, afs), schedule, end)
    x = field.start(latents, grid.t[0])
    D, lam = [], []
    for i in range(grid.n):
        D, lam = [model(x, grid.t[i]).x0, *D], [grid.lam[i], *lam]
        p = order_of_step(i, grid.n, order, lower_order_final)
        if grid.sigma[i + 1] == 0:
            return grid.alpha[i + 1] * D[0]
        after = grid.lam[i + 1]
        weights = lagrange_integrals(lam[:p], lam[0], after, weight=lambda s, end=after: np.exp(s - end))
        x = grid.sigma[i + 1] / grid.sigma[i] * x + grid.alpha[i + 1] * combine(weights, D[:p])
    return x
