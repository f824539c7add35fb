"""The explicit midpoint rule for dx/dt = v(x, t) (Runge 1895), in the path's own time; RF-Solver's second-order update
(arXiv 2411.04746) is the same rule."""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, schedule="auto", end="t_min", afs=False):
    model = model_of(field, afs)
    t = field.times(steps_for(nfe, 2, end, afs), schedule, end)
    x = field.start(latents, t[0])
    for now, after in pairwise(t.tolist()):
        h = after - now
        d = model(x, now).velocity
        if after > 0 or end == "t_min":  # the last step to t = 0 is Euler's
            d = model(x + h / 2 * d, now + h / 2).velocity
        x = x + h * d
    return x
