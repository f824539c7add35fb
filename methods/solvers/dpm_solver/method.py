"""Singlestep DPM-Solver (arXiv 2206.00927, algorithms 1 and 2, r_1 = 1/3 and r_2 = 2/3 at order 3).

The grid ends at the smallest noise level, as published: at sigma = 0 lambda is infinite. On paths with alpha = 0 at
t_max it starts where lambda is finite (noise fraction 0.999).
"""

from itertools import pairwise
from math import expm1

from fewstep.errors import UserError
from fewstep.field import steps_for


def sample(field, latents, nfe, order=2, schedule="lambda"):
    if order not in STEPS:
        raise UserError(f"dpm_solver has order 1, 2 or 3, not {order}")
    if schedule not in ("lambda", "karras"):
        raise UserError(f"dpm_solver needs a schedule with finite lambda, lambda or karras, not {schedule!r}")
    path = field.path
    t = field.times(steps_for(nfe, order), schedule, end="t_min")
    x = field.start(latents, t[0])

    def eps(u, lam):
        return field(u, path.time_at_lambda(lam)).eps

    def alpha_sigma(lam):
        s = path.time_at_lambda(lam)
        return float(path.alpha(s)), float(path.sigma(s))

    for lam, lam_next in pairwise(path.lam(t).tolist()):
        x = STEPS[order](x, lam, lam_next - lam, eps, alpha_sigma)
    return x


def _first(x, lam, h, eps, at):
    (a_s, _), (a_t, s_t) = at(lam), at(lam + h)
    return a_t / a_s * x - s_t * expm1(h) * eps(x, lam)


def _second(x, lam, h, eps, at, r=0.5):
    (a_s, _), (a_m, s_m), (a_t, s_t) = at(lam), at(lam + r * h), at(lam + h)
    e_s = eps(x, lam)
    u = a_m / a_s * x - s_m * expm1(r * h) * e_s
    e_m = eps(u, lam + r * h)
    return a_t / a_s * x - s_t * expm1(h) * (e_s + (e_m - e_s) / (2 * r))


def _third(x, lam, h, eps, at, r1=1 / 3, r2=2 / 3):
    (a_s, _), (a_1, s_1), (a_2, s_2), (a_t, s_t) = (at(lam + r * h) for r in (0, r1, r2, 1))
    e_s = eps(x, lam)
    u1 = a_1 / a_s * x - s_1 * expm1(r1 * h) * e_s
    D1 = eps(u1, lam + r1 * h) - e_s
    u2 = a_2 / a_s * x - s_2 * expm1(r2 * h) * e_s - s_2 * r2 / r1 * (expm1(r2 * h) / (r2 * h) - 1) * D1
    D2 = eps(u2, lam + r2 * h) - e_s
    return a_t / a_s * x - s_t * expm1(h) * e_s - s_t / r2 * (expm1(h) / h - 1) * D2


STEPS = {1: _first, 2: _second, 3: _third}
