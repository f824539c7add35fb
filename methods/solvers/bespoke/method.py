"""Bespoke non-stationary solvers (BNS, arXiv 2403.01329): all coefficients of a linear rule, and its times, learnt for
one model and one number of steps n.

    x_{i+1} = a_i x_0 + sum_{j<=i} b_ij u_j,   u_j = u(x_j, t_j)

x_0 is the noise, u the velocity eps - x_0 and t the noise fraction sigma / (alpha + sigma) of the straight path, to which
every path is mapped by x / (alpha + sigma). With `learn: times` a and b follow from the times by Euler's rule.
"""

from functools import partial
from math import cos, pi

import torch

from fewstep.errors import UserError
from fewstep.multistep import lagrange_integrals, order_of_step
from fewstep.paths import like

FORMS = ("bns", "times")


def fit(task):
    p = task.params
    if p["learn"] not in FORMS:
        raise UserError(f"bespoke learns {' or '.join(FORMS)}; got {p['learn']!r}")
    z = task.latents(p["pairs"] + p["held_out"])
    teacher = task.solver(p["teacher"])
    target = task.once("reference", lambda: {"x": teacher(task.field(z), z, p["teacher_nfe"])})["x"].to(z)
    learnt = {}
    for n in task.nfes:
        found = task.once(f"nfe{n}", partial(train, task, z, target, n))
        learnt |= {f"{name}{n}": value for name, value in found.items()}
    return task.state(**learnt)


def sample(field, latents, nfe, fitted, learn="bns", order=2, pairs=64, held_out=32, teacher="adams_bashforth",
           teacher_nfe=40, iterations=40, batch=16, lr=0.03):  # fmt: skip
    if f"t{nfe}" not in fitted:
        raise UserError(f"bespoke was not fitted for NFE {nfe}")
    rule = [fitted[f"{name}{nfe}"].double() for name in "tab"]
    return solve(partial(velocity, field), rule[0][0] * latents, *rule)


def velocity(field, x, t, **rows):
    """u = dx/dt [B, ...] of the straight path at x and noise fraction t."""
    path = field.path
    s = path.time_at(t)
    p = field(like(path.alpha(s) + path.sigma(s), x) * x, s, **rows)
    return p.eps - p.x0


def solve(u, x_0, t, a, b):
    """x_n [B, ...] by the rule t [n + 1], a [n], b [n, n]; float64 tensors on the CPU."""
    x, us = x_0, []
    for i in range(len(a)):
        us.append(u(x, t[i]))
        x = a[i] * x_0 + sum(b[i, j] * u_j for j, u_j in enumerate(us))
    return x


def initial_times(field, n):
    """Noise fractions [n + 1] of the model's own grid down to the smallest noise, from where the last step goes to 0."""
    t = field.path.fraction(field.times(n, end="t_min"))
    t[-1] = 0
    return t


def adams_bashforth(t, order):
    """c [n, n] of the variable-step rule of this order on the times t [n + 1]; order 1 is Euler's rule."""
    n, nodes = len(t) - 1, t.tolist()
    c = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        first = i + 1 - order_of_step(i, n, order)
        weights = torch.tensor(lagrange_integrals(nodes[first : i + 1], nodes[i], nodes[i + 1]), dtype=torch.float64)
        c[i, first : i + 1] = weights / (t[i + 1] - t[i])
    return c


def parameters(t, learn, order):
    """What is optimised: log time steps [n], and c [n (n + 1) / 2] and d [n] unless times alone are learnt."""
    c = adams_bashforth(t, order)
    theta = {"log_h": (t[:-1] - t[1:]).log()}
    if learn == "bns":
        theta |= {"c": c[*torch.tril_indices(*c.shape)], "d": torch.zeros(len(c), dtype=torch.float64)}
    return {name: value.clone().requires_grad_() for name, value in theta.items()}, c


def rule_of(theta, c, t_0, t_least):
    """t, a, b of the rule, written as steps so that all unknowns are of one size and b follows the times:

        x_{i+1} = x_i + h_i (sum_{j<=i} c_ij u_j + d_i x_0),   so b_ij = sum_{k=j}^i h_k c_kj,   a_i = 1 + sum_{k<=i} h_k d_k

    The times go from t_0 to 0 in steps in proportion to exp(log_h), and no call lies below t_least.
    """
    inner = (t_0 * (1 - theta["log_h"].softmax(0).cumsum(0)[:-1])).clamp(min=t_least)
    t = torch.cat([t_0.reshape(1), inner, torch.zeros(1, dtype=torch.float64)])
    h, d = t[1:] - t[:-1], torch.zeros(len(c), dtype=torch.float64)
    if "c" in theta:
        c, d = torch.zeros_like(c).index_put(tuple(torch.tril_indices(*c.shape)), theta["c"]), theta["d"]
    return t, 1 + (h * d).cumsum(0), (h.unsqueeze(1) * c).cumsum(0)


def train(task, z, target, n):
    """Adam on the PSNR of x_n; returns the iterate that is best on pairs held out, the initial rule among them."""
    p, pairs = task.params, task.params["pairs"]
    learning, looking = task.field(z, grad=True), task.field(z)
    t = initial_times(learning, n)
    theta, c = parameters(t, p["learn"], p["order"])
    optimiser = torch.optim.Adam(theta.values(), lr=p["lr"])
    rng, best = task.generator("batches", n), (float("inf"), {})

    def loss(field, rows):
        """log MSE a sample, which is -PSNR / 10 up to constants; one field, so that a row keeps its condition."""
        u = partial(velocity, field, rows=rows, of=len(z))
        rule = rule_of(theta, c, t[0], learning.path.u_min)
        x_n = solve(u, t[0] * z[rows], *rule)
        return (x_n - target[rows]).square().flatten(1).mean(1).clamp(min=1e-12).log().mean(), rule

    with torch.enable_grad():
        for step in range(p["iterations"] + 1):
            if step % max(1, p["iterations"] // 8) == 0:
                found, rule = loss(looking, torch.arange(pairs, len(z)))
                if found.item() < best[0]:
                    best = found.item(), dict(zip("tab", (value.detach().clone() for value in rule), strict=True))
            if step == p["iterations"]:
                return best[1]
            optimiser.param_groups[0]["lr"] = p["lr"] * (1 + cos(pi * step / p["iterations"])) / 2
            rows = torch.randperm(pairs, generator=rng)[: p["batch"]]
            gradients = torch.autograd.grad(loss(learning, rows)[0], list(theta.values()))
            for value, gradient in zip(theta.values(), gradients, strict=True):
                value.grad = gradient
            optimiser.step()
