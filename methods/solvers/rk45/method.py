"""Dormand–Prince 5(4) with a step size of its own for every sample, in the path's natural coordinates.

The sampler of rectified flow (arXiv 2209.03003, tolerance 1e-5), made comparable at a budget: `fit` searches the
tolerance that serves latents of its own best, and a sample that nears its budget takes one last step to the end.
"""

from functools import partial

import torch

from fewstep.errors import UserError
from fewstep.multistep import combine
from fewstep.paths import like

# Dormand & Prince (1980): nodes, stages, and the difference of the fifth-order to the fourth-order weights.
C = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
E = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

SMALLEST, LARGEST, SAFETY = 0.2, 10.0, 0.9  # change of step size (Hairer, Nørsett & Wanner 1993, §II.4)
TOLERANCES = [10 ** (k / 2) for k in range(-8, 3)]  # that are tried, from 1e-4 to 10
REFERENCE, MANY = 1e-5, 600  # tolerance and budget of what the tries are compared with


def fit(task):
    """For each NFE, the tolerance with which latents of its own end nearest to their converged solution."""
    p, found = task.params, {}
    if p["tolerance"] is not None:
        return task.state()
    z = task.latents(p["probes"])
    converged = task.once("reference", lambda: {"x": integrate(task.field(z), z, MANY, REFERENCE, p["schedule"])[0]})[
        "x"
    ]

    def error(nfe, tolerance):
        x = integrate(task.field(z, budget=nfe), z, nfe, tolerance, p["schedule"])[0]
        return (x - converged.to(x)).square().mean().item()

    for nfe in task.nfes:
        best = partial(min, TOLERANCES, key=partial(error, nfe))
        found[f"nfe{nfe}"] = task.once(f"nfe{nfe}", lambda best=best: {"tolerance": torch.tensor(best())})["tolerance"]
    return task.state(**found)


def sample(field, latents, nfe, fitted=None, tolerance=None, schedule="auto", probes=32):
    if tolerance is not None and not tolerance > 0:
        raise UserError(f"rk45 needs a tolerance above 0, or null to search it; got {tolerance}")
    return integrate(field, latents, nfe, tolerance or float(fitted[f"nfe{nfe}"]), schedule)[0]


def integrate(field, latents, nfe, tolerance, schedule):
    """The samples, and whether each ran into its budget [B].

    The first step takes six calls, each further try six (its first slope is the last one's seventh), and a last step
    that is taken as it is five.
    """
    if nfe < 12:
        raise UserError(f"rk45 takes six calls a step and needs two: NFE {nfe} is too few; 12, 13, … will do")
    path, n = field.path, len(latents)
    t = field.times(nfe // 6, schedule, "t_min")
    first, second, last = (float(path.clock(node)) for node in (t[0], t[1], t[-1]))

    def slope(y, c, rows):
        s = path.time_at_clock(c)
        return path.slope(field(like(path.scale(s), y) * y, s, rows, n))

    def stages(y, c, h, k1, rows):
        """k_1 to k_6 and the fifth-order solution."""
        k = [k1]
        for i in range(1, 6):
            k.append(slope(y + like(h, y) * combine(A[i], k), c + C[i] * h, rows))
        return k, y + like(h, y) * combine(A[6], k)

    y = field.start(latents, t[0]) / like(path.scale(t[0]), latents)
    c = torch.full((n,), first, dtype=torch.float64)
    h = torch.full_like(c, second - first)  # the grid's own first step is the first try
    left = torch.full((n,), nfe - 1)
    rows, forced = torch.arange(n), torch.zeros(n, dtype=torch.bool)
    k1 = slope(y, c, rows)
    while len(rows):
        must_end = left[rows] < 6 + 5  # after another try no step would fit
        if len(ending := rows[must_end]):
            forced[ending] = True
            y[ending] = stages(y[ending], c[ending], last - c[ending], k1[ending], ending)[1]
        rows = rows[~must_end]
        if not len(rows):
            break
        step = torch.maximum(h[rows], last - c[rows])  # the clock runs down
        k, y_next = stages(y[rows], c[rows], step, k1[rows], rows)
        k.append(slope(y_next, c[rows] + step, rows))
        left[rows] -= 6
        # Measured where noise and data are of one size on every path: x / (alpha + sigma).
        s = path.time_at_clock(c[rows] + step)
        to_z = like(path.scale(s) / (path.alpha(s) + path.sigma(s)), y)
        size = tolerance * (1 + (to_z * y_next).abs())
        error = (like(step, y) * to_z * combine(E, k) / size).flatten(1).square().mean(1).sqrt().double().cpu()
        h[rows] = step * (SAFETY * error.clamp(min=1e-12) ** -0.2).clamp(SMALLEST, LARGEST)
        good = error <= 1
        y[rows[good]], k1[rows[good]] = y_next[good], k[6][good]
        # To the end exactly: c + (last - c) may round to another number, and leave a step of 1e-17.
        c[rows] = torch.where(good, torch.where(step == last - c[rows], last, c[rows] + step), c[rows])
        rows = rows[c[rows] > last]
    return y * like(path.scale(t[-1]), y), forced


def cost(params, nfes):
    """Network calls of the fit: of the converged solution, as measured, and of each tolerance that is tried."""
    return params["probes"] * (250 + len(TOLERANCES) * sum(nfes))
