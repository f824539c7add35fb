"""DDIM with eta = 0 (arXiv 2010.02502, eq. 12) = DPM-Solver-1, for any alpha and sigma."""

from fewstep.field import steps_for
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="zero", afs=False, thresholding=None):
    model, path = model_of(field, afs, thresholding), field.path
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    alpha, sigma, t = path.alpha(t).tolist(), path.sigma(t).tolist(), t.tolist()
    x = field.start(latents, t[0])
    for i in range(len(t) - 1):
        p = model(x, t[i])
        x = alpha[i + 1] * p.x0 + sigma[i + 1] * p.eps
    return x
