"""The explicit midpoint rule (Runge 1895) in the path's natural coordinates; on RF it is RF-Solver's update
(arXiv 2411.04746)."""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.natural import clocks, enter, leave, ode
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="t_min", afs=False):
    path = field.path
    t = field.times(steps_for(nfe, 2, end, afs), schedule, end)
    slope, clock = ode(model_of(field, afs), path), clocks(path, t)
    y = enter(path, field.start(latents, t[0]), t[0])
    for now, after in pairwise(clock):
        h = after - now
        d = slope(y, now)
        if after > 0 or end == "t_min":  # the last step to t = 0 is Euler's
            d = slope(y + h / 2 * d, now + h / 2)
        y = y + h * d
    return leave(path, y, t[-1])
