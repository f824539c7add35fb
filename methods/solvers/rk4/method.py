"""The classical fourth-order Runge–Kutta rule (Kutta 1901) in the path's natural coordinates."""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.natural import clocks, enter, leave, ode
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="t_min", afs=False):
    path = field.path
    t = field.times(steps_for(nfe, 4, end, afs), schedule, end)
    slope, clock = ode(model_of(field, afs), path), clocks(path, t)
    y = enter(path, field.start(latents, t[0]), t[0])
    for now, after in pairwise(clock):
        h = after - now
        k1 = slope(y, now)
        if after == 0 and end == "zero":  # the last step to t = 0 is Euler's
            y = y + h * k1
            break
        k2 = slope(y + h / 2 * k1, now + h / 2)
        k3 = slope(y + h / 2 * k2, now + h / 2)
        k4 = slope(y + h * k3, after)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return leave(path, y, t[-1])
