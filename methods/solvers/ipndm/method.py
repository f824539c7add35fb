"""iPNDM (arXiv 2204.13902, §3.3): linear multistep DDIM without PNDM's Runge–Kutta start.

y = x / scale over the path's clock c has the slope d (`fewstep.natural`: eps over sigma / alpha on VP, as published,
and dx/dt over t on EDM, RF and SI). Step i combines the last min(order, i + 1) slopes.
"""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.multistep import adams_bashforth, check_order
from fewstep.natural import clocks, enter, leave, ode
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, order=4, schedule="auto", end="zero", afs=False):
    check_order("ipndm", order, (1, 2, 3, 4))
    path = field.path
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    slope = ode(model_of(field, afs), path)
    y = enter(path, field.start(latents, t[0]), t[0])
    d = []
    for now, after in pairwise(clocks(path, t)):
        d = [slope(y, now), *d][:order]
        y = y + (after - now) * adams_bashforth(d)
    return leave(path, y, t[-1])
