"""iPNDM (arXiv 2204.13902, §3.3): linear multistep DDIM without PNDM's Runge–Kutta start.

y = x / scale over the path's clock has the slope d (`fewstep.paths`: eps over sigma / alpha on VP, as published, and
dx/dt over t on EDM, RF and SI). Step i combines the last min(order, i + 1) slopes.
"""

from fewstep.field import steps_for
from fewstep.multistep import check_order, combine
from fewstep.shortcuts import model_of

ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def sample(field, latents, nfe, order=4, schedule="auto", end="zero", afs=False):
    check_order("ipndm", order, tuple(ADAMS_BASHFORTH))
    model, path = model_of(field, afs), field.path
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    scale, clock, t = path.scale(t).tolist(), path.clock(t).tolist(), t.tolist()
    y = field.start(latents, t[0]) / scale[0]
    slopes = []
    for i in range(len(t) - 1):
        slopes = [path.slope(model(scale[i] * y, t[i])), *slopes][:order]
        y = y + (clock[i + 1] - clock[i]) * combine(ADAMS_BASHFORTH[len(slopes)], slopes)
    return scale[-1] * y
