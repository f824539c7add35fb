"""iPNDM (arXiv 2204.13902, §3.3): linear multistep DDIM without PNDM's Runge–Kutta start.

y = x / scale over the path's clock c has the slope d (`fewstep.natural`: eps over sigma / alpha on VP, as published,
and dx/dt over t on EDM, RF and SI). Step i combines the last min(order, i + 1) slopes.
"""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.multistep import check_order, combine
from fewstep.natural import clocks, enter, leave, ode
from fewstep.shortcuts import model_of

ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def sample(field, latents, nfe, order=4, schedule="auto", end="zero", afs=False):
    check_order("ipndm", order, tuple(ADAMS_BASHFORTH))
    path = field.path
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    slope = ode(model_of(field, afs), path)
    y = enter(path, field.start(latents, t[0]), t[0])
    d = []
    for now, after in pairwise(clocks(path, t)):
        d = [slope(y, now), *d][:order]
        y = y + (after - now) * combine(ADAMS_BASHFORTH[len(d)], d)
    return leave(path, y, t[-1])
