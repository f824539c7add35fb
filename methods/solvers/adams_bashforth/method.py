"""Adams–Bashforth with variable steps (Hairer, Nørsett & Wanner 1993, §III.5), in the path's natural coordinates.

y = x / scale over the path's clock c has the slope d (`fewstep.natural`); the polynomial through the last slopes is
integrated exactly, whatever the grid.

    y_{i+1} = y_i + sum_j d_{i-j} int_{c_i}^{c_{i+1}} L_j dc
"""

from itertools import pairwise

from fewstep.field import steps_for
from fewstep.multistep import check_order, combine, lagrange_integrals
from fewstep.natural import clocks, enter, leave, ode
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, order=4, schedule="auto", end="zero", afs=False):
    check_order("adams_bashforth", order, (1, 2, 3, 4))
    path = field.path
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    slope = ode(model_of(field, afs), path)
    y = enter(path, field.start(latents, t[0]), t[0])
    d, c = [], []
    for now, after in pairwise(clocks(path, t)):
        d, c = [slope(y, now), *d][:order], [now, *c][:order]
        y = y + combine(lagrange_integrals(c, now, after), d)
    return leave(path, y, t[-1])
