"""DPM-Solver++ (arXiv 2211.01095): exponential integrators in lambda for the data prediction D = E[x_0 | x].

    x_{i+1} = sigma_{i+1} / sigma_i x_i + alpha_{i+1} e^{-lambda_{i+1}} int e^lambda D d lambda

2S (algorithm 1) takes a midpoint; 2M (algorithm 2) and 3M (the published code) take the last two or three D.
"""

from math import expm1

from fewstep.field import steps_for
from fewstep.multistep import check_order, order_of_step
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, order=2, multistep=True, schedule="lambda", end="t_min", afs=False,
           thresholding=None, lower_order_final=True):  # fmt: skip
    check_order("dpm_solver_pp", order, (1, 2, 3) if multistep else (2,))
    model = model_of(field, afs, thresholding)
    if multistep:
        return _multistep(field, model, latents, nfe, order, schedule, end, afs, lower_order_final)
    return _singlestep(field, model, latents, nfe, schedule, end, afs)


def _multistep(field, model, latents, nfe, order, schedule, end, afs, lower_order_final):
    grid = field.grid(steps_for(nfe, 1, end, afs), schedule, end)
    lower_order_final |= end == "zero"  # a step to lambda = inf returns D
    x = field.start(latents, grid.t[0])
    D, lam = [], []
    for i in range(grid.n):
        D = [model(x, grid.t[i]).x0, *D][:order]
        lam = [grid.lam[i], *lam][:order]
        step = (first, second, third)[order_of_step(i, grid.n, order, lower_order_final) - 1]
        x = grid.sigma[i + 1] / grid.sigma[i] * x + grid.alpha[i + 1] * step(grid.h(i), D, lam)
    return x


def first(h, D, lam):
    return -expm1(-h) * D[0]


def second(h, D, lam):
    r0 = (lam[0] - lam[1]) / h
    return -expm1(-h) * (D[0] + (D[0] - D[1]) / (2 * r0))


def third(h, D, lam):
    r0, r1 = (lam[0] - lam[1]) / h, (lam[1] - lam[2]) / h
    A, B = (D[0] - D[1]) / r0, (D[1] - D[2]) / r1
    D1 = A + r0 / (r0 + r1) * (A - B)
    D2 = (A - B) / (r0 + r1)  # half the second derivative, as published: the order stays 2 (etd_ab has the whole one)
    phi2 = expm1(-h) / h + 1
    phi3 = phi2 / h - 0.5
    return -expm1(-h) * D[0] + phi2 * D1 - phi3 * D2


def _singlestep(field, model, latents, nfe, schedule, end, afs, r=0.5):
    grid = field.grid(steps_for(nfe, 2, end, afs), schedule, end)
    x = field.start(latents, grid.t[0])
    for i in range(grid.n):
        h, ratio = grid.h(i), grid.sigma[i + 1] / grid.sigma[i]
        D = model(x, grid.t[i]).x0
        if grid.sigma[i + 1] > 0:  # else the step returns D
            s = field.path.time_at_lambda(grid.lam[i] + r * h)
            a_m, s_m = float(field.path.alpha(s)), float(field.path.sigma(s))
            u = s_m / grid.sigma[i] * x - a_m * expm1(-r * h) * D
            D_m = model(u, s).x0
            D = D + (D_m - D) / (2 * r)
        x = ratio * x - grid.alpha[i + 1] * expm1(-h) * D
    return x
