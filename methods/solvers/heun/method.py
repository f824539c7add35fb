"""EDM's sampler (arXiv 2206.00364): Heun's rule (algorithm 1), with Euler alone on the last step to t = 0, and
optional churn (algorithm 2): noise added before a step, in sigma / alpha.

n steps take 2 n - 1 calls, or 2 n where the grid stops at t_min and the last step is corrected too.
"""

from itertools import pairwise
from math import sqrt

import torch

from fewstep.field import steps_for
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="zero", afs=False, S_churn=0.0, S_min=0.0, S_max=float("inf"),
           S_noise=1.0):  # fmt: skip
    model = model_of(field, afs)
    t = field.times(steps_for(nfe, 2, end, afs), schedule, end)
    x = field.start(latents, t[0])
    for i, (now, after) in enumerate(pairwise(t.tolist())):
        if S_churn:
            x, now = churn(field, x, now, i, S_churn / (len(t) - 1), S_min, S_max, S_noise)
        d = model(x, now).velocity
        x_next = x + (after - now) * d
        if after > t[-1] or end == "t_min":
            d_next = model(x_next, after).velocity
            x_next = x + (after - now) * (d + d_next) / 2
        x = x_next
    return x


def churn(field, x, t, i, gamma, S_min, S_max, S_noise):
    """Raise the noise level sigma / alpha to (1 + gamma) times itself by adding noise (algorithm 2, lines 4 to 6)."""
    path = field.path
    sigma, alpha = (float(f(torch.tensor(t, dtype=torch.float64))) for f in (path.sigma, path.alpha))
    if not alpha or not S_min <= sigma / alpha <= S_max:
        return x, t
    level = sigma / alpha
    level_hat = level * (1 + min(gamma, sqrt(2) - 1))
    t_hat = path.time_at_ratio(torch.tensor(level_hat, dtype=torch.float64))
    noise = S_noise * field.noise(f"churn{i}", x)
    return float(path.alpha(t_hat)) * (x / alpha + sqrt(level_hat**2 - level**2) * noise), float(t_hat)
