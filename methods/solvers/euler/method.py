"""Euler's rule on the probability-flow ODE dx/dt = v(x, t); on the EDM path this is DDIM."""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="zero", afs=False):
    model = model_of(field, afs)
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    x = field.start(latents, t[0])
    for now, after in pairwise(t.tolist()):
        x = x + (after - now) * model(x, now).velocity
    return x
