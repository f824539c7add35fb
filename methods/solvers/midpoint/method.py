"""The explicit midpoint rule (Runge 1895) in the path's natural coordinates; on RF it is RF-Solver's update
(arXiv 2411.04746)."""

from fewstep.natural import one_step


def sample(field, latents, nfe, schedule="auto", end="t_min", afs=False):
    return one_step(field, latents, nfe, midpoint, 2, schedule, end, afs)


def midpoint(slope, y, c, h):
    return slope(y + h / 2 * slope(y, c), c + h / 2)
