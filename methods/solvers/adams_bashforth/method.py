"""Adams–Bashforth with variable steps (Hairer, Nørsett & Wanner 1993, §III.5), in the path's natural coordinates.

y = x / scale over the path's clock c has the slope d (`fewstep.paths`); the polynomial through the last slopes is
integrated exactly, whatever the grid.

    y_{i+1} = y_i + sum_j d_{i-j} int_{c_i}^{c_{i+1}} L_j dc
"""

from fewstep.field import steps_for
from fewstep.multistep import check_order, combine, lagrange_integrals
from fewstep.shortcuts import model_of


def sample(field, latents, nfe, order=4, schedule="auto", end="zero", afs=False):
    check_order("adams_bashforth", order, (1, 2, 3, 4))
    model, path = model_of(field, afs), field.path
    t = field.times(steps_for(nfe, 1, end, afs), schedule, end)
    scale, clock, t = path.scale(t).tolist(), path.clock(t).tolist(), t.tolist()
    y = field.start(latents, t[0]) / scale[0]
    slopes, nodes = [], []
    for i in range(len(t) - 1):
        slopes = [path.slope(model(scale[i] * y, t[i])), *slopes][:order]
        nodes = [clock[i], *nodes][:order]
        y = y + combine(lagrange_integrals(nodes, clock[i], clock[i + 1]), slopes)
    return scale[-1] * y
