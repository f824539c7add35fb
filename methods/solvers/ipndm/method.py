"""iPNDM (arXiv 2204.13902, §3.3): linear multistep DDIM without PNDM's Runge–Kutta start.

y = x / scale over the path's clock has the slope d (`fewstep.paths`: eps over sigma / alpha on VP, as published, and
dx/dt over t on EDM, RF and SI). Step i combines the last min(order, i + 1) slopes.
"""

from itertools import pairwise

from fewstep.errors import UserError
from fewstep.paths import like

ADAMS_BASHFORTH = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def sample(field, latents, nfe, order=4, schedule="auto", end="zero"):
    if order not in ADAMS_BASHFORTH:
        raise UserError(f"ipndm has order 1, 2, 3 or 4, not {order}")
    path = field.path
    t = field.times(nfe, schedule, end)
    y = field.start(latents, t[0]) / like(path.scale(t[0]), latents)
    slopes = []
    for now, after in pairwise(t):
        x = like(path.scale(now), y) * y
        slopes = [path.slope(field(x, now)), *slopes][:order]
        weights = ADAMS_BASHFORTH[len(slopes)]
        step = like(path.clock(after) - path.clock(now), y)
        y = y + step * sum(c * d for c, d in zip(weights, slopes, strict=True))
    return like(path.scale(after), y) * y
