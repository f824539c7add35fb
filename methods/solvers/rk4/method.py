"""The classical fourth-order Runge–Kutta rule for dx/dt = v(x, t) (Kutta 1901), in the path's own time."""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="t_min", afs=False):
    model = model_of(field, afs)
    t = field.times(steps_for(nfe, 4, end, afs), schedule, end)
    x = field.start(latents, t[0])
    for now, after in pairwise(t.tolist()):
        h = after - now
        k1 = model(x, now).velocity
        if after == 0 and end == "zero":  # the last step to t = 0 is Euler's
            return x + h * k1
        k2 = model(x + h / 2 * k1, now + h / 2).velocity
        k3 = model(x + h / 2 * k2, now + h / 2).velocity
        k4 = model(x + h * k3, after).velocity
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x
