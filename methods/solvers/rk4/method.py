"""The classical fourth-order Runge–Kutta rule (Kutta 1901) in the path's natural coordinates."""

from fewstep.natural import one_step


def sample(field, latents, nfe, schedule="auto", end="t_min", afs=False):
    return one_step(field, latents, nfe, rk4, 4, schedule, end, afs)


def rk4(slope, y, c, h):
    k1 = slope(y, c)
    k2 = slope(y + h / 2 * k1, c + h / 2)
    k3 = slope(y + h / 2 * k2, c + h / 2)
    k4 = slope(y + h * k3, c + h)
    return (k1 + 2 * k2 + 2 * k3 + k4) / 6
