"""Bespoke non-stationary solvers (BNS, arXiv 2403.01329): all coefficients of a linear rule, and its times, learnt for
one model and one number of steps n.

    x_{i+1} = a_i x_0 + sum_{j<=i} b_ij u_j,   u_j = u(x_j, t_j)

Every path is mapped to the straight one by x / (alpha + sigma): there t is the noise fraction sigma / (alpha + sigma),
u the velocity (noise less data) and x_0 the noise. With `learn: times` a and b follow from the times by Euler's rule.
"""

from functools import partial

import torch

from fewstep.errors import UserError
from fewstep.multistep import lagrange_integrals, order_of_step
from fewstep.paths import like

FORMS = ("bns", "times")
ROUND = 8  # gradients


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


def sample(field, latents, nfe, fitted, learn="bns", order=2, pairs=128, held_out=128, teacher="adams_bashforth",
           teacher_nfe=40, rounds=5):  # fmt: skip
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
    """Noise fractions [n + 1] of the model's own grid down to the smallest noise, with 0 in that one's place."""
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

        x_{i+1} = x_i + h_i (sum_{j<=i} c_ij u_j + d_i x_0), so b_ij = sum_{k<=i} h_k c_kj, a_i = 1 + sum_{k<=i} h_k d_k

    The times go from t_0 to 0 in steps in proportion to exp(log_h), and no call lies below t_least.
    """
    inner = (t_0 * (1 - theta["log_h"].softmax(0).cumsum(0)[:-1])).clamp(min=t_least)
    t = torch.cat([t_0.reshape(1), inner, torch.zeros(1, dtype=torch.float64)])
    h, d = t[1:] - t[:-1], torch.zeros(len(c), dtype=torch.float64)
    if "c" in theta:
        c, d = torch.zeros_like(c).index_put(tuple(torch.tril_indices(*c.shape)), theta["c"]), theta["d"]
    return t, 1 + (h * d).cumsum(0), (h.unsqueeze(1) * c).cumsum(0)


def train(task, z, target, n):
    """L-BFGS on the PSNR of x_n, in rounds; returns the rule that is best on the pairs held out, the initial one among
    them, and stops when a round makes it worse."""
    p, pairs = task.params, task.params["pairs"]
    learning, looking = task.field(z, grad=True), task.field(z)
    t = initial_times(learning, n)
    theta, c = parameters(t, p["learn"], p["order"])
    unknowns = list(theta.values())
    optimiser = torch.optim.LBFGS(unknowns, max_iter=ROUND, max_eval=ROUND, line_search_fn="strong_wolfe")

    def loss(field, rows):
        """log MSE, which is -PSNR up to constants; one field for all rows, so that each keeps its condition."""
        u = partial(velocity, field, rows=rows, of=len(z))
        x_n = solve(u, t[0] * z[rows], *(rule := rule_of(theta, c, t[0], field.path.u_min)))
        return (x_n - target[rows]).square().mean().log(), rule

    def closure():
        value, _ = loss(learning, torch.arange(pairs))
        for unknown, gradient in zip(unknowns, torch.autograd.grad(value, unknowns, allow_unused=True), strict=True):
            unknown.grad = torch.zeros_like(unknown) if gradient is None else gradient
        return value

    best, kept = float("inf"), None
    with torch.enable_grad():
        for _ in range(p["rounds"] + 1):
            if kept is not None:
                optimiser.step(closure)
                task.on_progress()
            found, rule = loss(looking, torch.arange(pairs, len(z)))
            if kept is not None and not found.item() < best:
                break
            best, kept = found.item(), dict(zip("tab", (value.detach().clone() for value in rule), strict=True))
    return kept


def cost(params, nfes):
    """Network calls of the fit at most, a backward pass as two: the teacher's, and for each NFE all rounds."""
    p = params
    each = 3 * p["rounds"] * ROUND * p["pairs"] + (p["rounds"] + 1) * p["held_out"]
    return (p["pairs"] + p["held_out"]) * p["teacher_nfe"] + sum(nfes) * each
