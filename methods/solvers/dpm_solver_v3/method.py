"""DPM-Solver-v3 (arXiv 2310.13268): an exponential integrator in lambda whose linear part, and whose drift of the rest,
are measured on the model itself: the empirical model statistics l, s and b, a number for every element and lambda.

With y = x / alpha the ODE is dy/dlambda = -l y - f, f = (sigma eps - l x) / alpha. Along it f' is near s f + b, so that
g = e^{S_s - S} f - e^{S_s} (B - B_s) changes little, where L, S and B are the integrals of l, s and e^{-S} b. A step is

    y_t = e^{L_s - L_t} (y_s - E_b - sum_k E_k g^(k)),
    E_k = int e^{L + S - L_s - S_s} (lambda - lambda_s)^k / k! d lambda,   E_b = int e^{L + S - L_s} (B - B_s) d lambda,

with g and its derivatives at lambda_s from the last values of f; E_0 and E_b are the paper's I and C, seen from s.
"""

from math import factorial

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from fewstep.field import steps_for
from fewstep.multistep import check_order, combine, order_of_step
from fewstep.schedules import ratios
from fewstep.shortcuts import model_of

DELTA = (
    0.03  # of finite differences, in sigma and in lambda: a float32 network's rounding is far below, its curvature too
)
RIDGE = 1e-8  # a variance of f below it (1e-4 of the data's scale) is rounding, and says nothing about s
POINTS = 32  # of the Gauss–Legendre rule on a step; one step may span the whole range of lambda


def fit(task):
    """l, s and b, [intervals + 1, ...], at lambda uniform over the path's range."""
    field = task.field(task.latents(task.params["samples"]))
    lam = np.linspace(*(-np.log(ratios(field.path))), task.params["intervals"] + 1)
    x0 = task.dataset.draw(task.params["samples"], task.generator("data")).to(task.device).double()
    eps = task.latents(len(x0), "marginals").double()
    v = torch.randint(2, x0.shape, generator=task.generator("probes")).to(x0) * 2 - 1
    # One set of draws serves every lambda, so that the statistics are smooth in it.
    l = task.once("l", lambda: {"l": linear_part(field, lam, x0, eps, v)})["l"]  # noqa: E741
    return task.state(lam=torch.from_numpy(lam), l=l, **task.once("sb", lambda: drift(field, lam, x0, eps, l)))


def linear_part(field, lam, x0, eps, v):
    """l = E diag(sigma d eps / dx), which minimises E ||d (sigma eps - l x) / dx||_F, by Hutchinson's v * (J v)."""
    means = []
    for now in lam:
        t, alpha, sigma = at(field.path, now)
        x = alpha * x0 + sigma * eps
        D = [field(x + step * sigma * v, t).x0 for step in (DELTA, -DELTA)]
        J_v = (D[0] - D[1]) / (2 * DELTA * sigma)
        means.append((1 - alpha * v * J_v).mean(0))  # sigma eps = x - alpha D
    return torch.stack(means)


def drift(field, lam, x0, eps, l):  # noqa: E741
    """s and b of the regression f' = s f + b over samples; f' is the derivative along the ODE."""
    l_dot = CubicSpline(lam, l.numpy()).derivative()
    found = {"s": [], "b": []}
    for i, now in enumerate(lam):
        t, alpha, sigma = at(field.path, now)
        y = x0 + sigma / alpha * eps
        D = field(alpha * y, t).x0
        y_dot = D - y  # = -sigma eps / alpha
        D_dot = along(field, y, y_dot, now)
        l_i, l_dot_i = l[i].to(y), torch.from_numpy(l_dot(now)).to(y)
        f = (1 - l_i) * y - D
        f_dot = (1 - l_i) * y_dot - l_dot_i * y - D_dot
        deviation = f - f.mean(0)
        s = (deviation * f_dot).mean(0) / (deviation.square().mean(0) + RIDGE)
        found["s"].append(s)
        found["b"].append(f_dot.mean(0) - s * f.mean(0))
    return {name: torch.stack(values) for name, values in found.items()}


def along(field, y, y_dot, now):
    """dD/dlambda along the ODE."""
    D = []
    for step in (DELTA, -DELTA):
        t, alpha, _ = at(field.path, now + step)
        D.append(field(alpha * (y + step * y_dot), t).x0)
    return (D[0] - D[1]) / (2 * DELTA)


def at(path, lam):
    """t, alpha and sigma at one lambda."""
    t = path.time_at_lambda(torch.tensor(lam, dtype=torch.float64))
    return t, float(path.alpha(t)), float(path.sigma(t))


def sample(field, latents, nfe, fitted, order=3, pseudo=5, corrector=6, lower_order_final=True, schedule="lambda",
           end="t_min", afs=False, thresholding=None, intervals=60, samples=96):  # fmt: skip
    check_order("dpm_solver_v3", order, (1, 2, 3))
    model = model_of(field, afs, thresholding)
    grid = field.grid(steps_for(nfe, 1, end, afs), schedule, end)
    lower_order_final |= end == "zero"  # a step to lambda = inf returns D
    l, s, b = (Curve(fitted["lam"], fitted[name]) for name in "lsb")  # noqa: E741
    y = field.start(latents, grid.t[0]) / grid.alpha[0]
    g, lam, p = [], [], 0  # g is seen from lambda_i, newest first; p is the last step's order
    step = y_s = None  # the last step, and where it started
    for i in range(grid.n):
        D = model(grid.alpha[i] * y, grid.t[i]).x0
        if grid.sigma[i + 1] == 0:
            return grid.alpha[i + 1] * D
        f, now = like_x((1 - l(grid.lam[i])), y) * y - D, grid.lam[i]  # = (sigma eps - l x) / alpha
        if step:
            if p > 1 and grid.n <= corrector:  # f keeps the value that the network gave at the predicted y
                g_c = [g[0], step.seen_from_start(f), *g[1:]][:p]
                y = step(y_s, g_c, [lam[0], now, *lam[1:]][:p], pseudo=False)
            g = [step.seen_from_end(g_k) for g_k in g]
        g, lam = [f, *g][:order], [now, *lam][:order]
        p = order_of_step(i, grid.n, order, lower_order_final)
        step, y_s = Step(l, s, b, now, grid.lam[i + 1]), y
        y = step(y_s, g[:p], lam[:p], pseudo=grid.n <= pseudo)
    return grid.alpha[grid.n] * y


class Step:
    """The integrals of a step from lambda_s to lambda_t, and the rule; L, S and B are 0 at lambda_s."""

    def __init__(self, l, s, b, lam_s, lam_t):  # noqa: E741
        h, to = lam_t - lam_s, lam_s + (lam_t - lam_s) * NODES
        L, S = (curve.integral(lam_s, np.append(to, lam_t)) for curve in (l, s))
        self.L, self.S, L, S = L[-1], S[-1], L[:-1], S[:-1]
        drift = np.exp(-S) * b(to)
        B = h * np.tensordot(PRIMITIVE, drift, 1)
        self.B = h * np.tensordot(WEIGHTS, drift, 1)
        weighted = np.exp(L + S)
        self.E_b = h * np.tensordot(WEIGHTS, weighted * B, 1)
        self.E = [h * np.tensordot(WEIGHTS * (h * NODES) ** k / factorial(k), weighted, 1) for k in range(3)]

    def __call__(self, y_s, g, lam, pseudo):
        """y at lambda_t from g at lam, of which the first is lambda_s."""
        derivative = derivatives([node - lam[0] for node in lam], pseudo)
        weights = [sum(derivative[k, j] * self.E[k] for k in range(len(g))) for j in range(len(g))]
        drift = combine([like_x(w, y_s) for w in weights], g)
        return like_x(np.exp(-self.L), y_s) * (y_s - like_x(self.E_b, y_s) - drift)

    def seen_from_start(self, g):
        """g as it was, seen from lambda_t."""
        return like_x(np.exp(-self.S), g) * g - like_x(self.B, g)

    def seen_from_end(self, g):
        return like_x(np.exp(self.S), g) * (g + like_x(self.B, g))


def derivatives(delta, pseudo):
    """[k, j]: the weight of g(lambda_s + delta_j) in g^(k)(lambda_s), by the polynomial through all points (the paper's
    Vandermonde system) or, `pseudo`, through the first k + 1 (its divided differences)."""
    p = len(delta)
    out = np.zeros((p, p))
    for k in range(p):
        n = k + 1 if pseudo else p
        out[k, :n] = factorial(k) * np.linalg.inv(np.vander(delta[:n], increasing=True))[k]
    return out


class Curve:
    """A statistic between its nodes, by cubic splines: smooth enough for order 3. Constant outside."""

    def __init__(self, lam, values):
        self.lam = lam.numpy()
        self.spline = CubicSpline(self.lam, values.double().numpy())
        self.primitive = self.spline.antiderivative()

    def __call__(self, lam):
        return self.spline(np.clip(lam, self.lam[0], self.lam[-1]))

    def integral(self, start, end):
        """From a number to a number or to many [n]."""
        return self._from_first(end) - self._from_first(start)

    def _from_first(self, lam):
        inside = np.clip(lam, self.lam[0], self.lam[-1])
        if np.all(inside == lam):
            return self.primitive(inside)
        beyond = np.reshape(lam - inside, np.shape(lam) + (1,) * (self.spline.c.ndim - 2))
        return self.primitive(inside) + beyond * self.spline(inside)


def like_x(values, x):
    """Numbers of every element as a tensor like x."""
    return torch.from_numpy(np.asarray(values)).to(x)


def gauss_legendre(n):
    """On [0, 1]: nodes, weights [n], and [m, j], the weight of node j in the integral from 0 to node m."""
    x, w = np.polynomial.legendre.leggauss(n)
    P = np.polynomial.legendre.legvander(x, n)
    primitive = [x + 1] + [(P[:, k + 1] - P[:, k - 1]) / (2 * k + 1) for k in range(1, n)]
    return (x + 1) / 2, w / 2, np.stack(primitive, 1) @ np.linalg.inv(P[:, :n]) / 2


NODES, WEIGHTS, PRIMITIVE = gauss_legendre(POINTS)


def cost(params, nfes):
    """Network calls of the fit: five of each sample at each node of the statistics' grid, derivatives among them."""
    return 5 * params["samples"] * (params["intervals"] + 1)
