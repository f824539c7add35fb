"""Euler's rule on the probability-flow ODE dx/dt = v(x, t); on the EDM path this is DDIM."""

from itertools import pairwise


def sample(field, latents, nfe, schedule="auto", end="zero"):
    t = field.times(nfe, schedule, end)
    x = field.start(latents, t[0])
    for now, after in pairwise(t.tolist()):
        x = x + (after - now) * field(x, now).velocity
    return x
