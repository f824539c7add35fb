"""Singlestep DPM-Solver (arXiv 2206.00927): algorithms 1 and 2, and the mixed orders of "fast" (appendix D.3).

    x_{i+1} = alpha_{i+1} / alpha_i x_i - alpha_{i+1} int e^{-lambda} eps d lambda

Order 2 takes one intermediate lambda, order 3 two: at 1/2, or 1/3 and 2/3 of the step.
"""

from itertools import accumulate, pairwise
from math import expm1

import torch

from fewstep.errors import UserError
from fewstep.field import steps_for
from fewstep.multistep import check_order
from fewstep.schedules import spec_of
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, order=2, fast=False, schedule="lambda", end="t_min", afs=False):
    check_order("dpm_solver", order, (1, 2, 3))
    model = model_of(field, afs)
    last = [1] * (end == "zero")
    if fast:
        orders = fast_orders(nfe + afs - len(last), order, nfe) + last
    else:
        orders = [order] * (steps_for(nfe, order, end, afs) - len(last)) + last
    lams = nodes(field, orders, schedule, end, as_grid=fast and spec_of(schedule).name != "lambda")
    at = table(field.path, lams)
    x = field.start(latents, at[lams[0][0]][0])
    for lam in lams:
        x = STEPS[len(lam) - 1](model, x, lam, *zip(*(at[node] for node in lam), strict=True))
    return x


def fast_orders(calls, order, nfe):
    """Orders of the steps of DPM-Solver-fast: as many of the highest as fit, lower ones at the end."""
    if calls < 1:
        raise UserError(f"NFE {nfe} is too few for DPM-Solver-fast, which takes {1 - calls + nfe} calls or more")
    full, rest = divmod(calls, order)
    if order == 3 and rest == 0:
        return [3] * (full - 1) + [2, 1]
    return [order] * full + [rest] * (rest > 0)


def nodes(field, orders, schedule, end, as_grid):
    """lambda of each step's start, intermediate points and end; `as_grid` takes all of them from the schedule."""
    if as_grid:
        lam = field.grid(sum(orders), schedule, end).lam
        ends = list(accumulate(orders, initial=0))
        return [lam[i : j + 1] for i, j in pairwise(ends)]
    lam = field.grid(len(orders), schedule, end).lam
    inner = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}
    return [[s, *(s + r * (t - s) for r in inner[p]), t] for p, (s, t) in zip(orders, pairwise(lam), strict=True)]


def table(path, lams):
    """Time, alpha and sigma of every lambda, all at once."""
    nodes = list(dict.fromkeys(node for lam in lams for node in lam))
    t = path.time_at_lambda(torch.tensor(nodes, dtype=torch.float64))
    return dict(zip(nodes, zip(t.tolist(), path.alpha(t).tolist(), path.sigma(t).tolist(), strict=True), strict=True))


def first(model, x, lam, t, alpha, sigma):
    p = model(x, t[0])
    return alpha[1] * p.x0 + sigma[1] * p.eps  # = a_t / a_s x - s_t (e^h - 1) eps, and at sigma_t = 0 regular


def second(model, x, lam, t, alpha, sigma):
    (a_s, a_m, a_t), (_, s_m, s_t) = alpha, sigma
    h = lam[2] - lam[0]
    r = (lam[1] - lam[0]) / h
    e_s = model(x, t[0]).eps
    u = a_m / a_s * x - s_m * expm1(r * h) * e_s
    e_m = model(u, t[1]).eps
    return a_t / a_s * x - s_t * expm1(h) * (e_s + (e_m - e_s) / (2 * r))


def third(model, x, lam, t, alpha, sigma):
    (a_s, a_1, a_2, a_t), (_, s_1, s_2, s_t) = alpha, sigma
    h = lam[3] - lam[0]
    r1, r2 = (lam[1] - lam[0]) / h, (lam[2] - lam[0]) / h
    e_s = model(x, t[0]).eps
    u1 = a_1 / a_s * x - s_1 * expm1(r1 * h) * e_s
    D1 = model(u1, t[1]).eps - e_s
    u2 = a_2 / a_s * x - s_2 * expm1(r2 * h) * e_s - s_2 * r2 / r1 * (expm1(r2 * h) / (r2 * h) - 1) * D1
    D2 = model(u2, t[2]).eps - e_s
    return a_t / a_s * x - s_t * expm1(h) * e_s - s_t / r2 * (expm1(h) / h - 1) * D2


STEPS = {1: first, 2: second, 3: third}
