"""DDIM with eta = 0 (arXiv 2010.02502, eq. 12) = DPM-Solver-1, for any alpha and sigma."""

from itertools import pairwise

from fewstep.paths import like


def sample(field, latents, nfe, schedule="auto", end="zero"):
    path = field.path
    t = field.times(nfe, schedule, end)
    x = field.start(latents, t[0])
    for now, after in pairwise(t):
        p = field(x, now)
        x = like(path.alpha(after), x) * p.x0 + like(path.sigma(after), x) * p.eps
    return x
