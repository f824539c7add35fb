"""$label: the midpoint rule (an example; say what the solver does, with paper and equation)."""

from itertools import pairwise

from fewstep.field import steps_for


def sample(field, latents, nfe, schedule="auto"):
    """Samples [B, …] from unit Gaussian latents [B, …] with exactly `nfe` network calls.

    field(x, t)   one call: a prediction with .velocity (dx/dt), .x0 and .eps; call nfe + 1 is refused
    field.times   the grid t_0 > t_1 > … of the schedule; "auto" is the baseline's own
    field.start   the latents scaled to the noise level of a time
    field.path    alpha(t), sigma(t) and their derivatives, lam(t), for rules that need them
    Don't change `latents` in place, don't use global random numbers (let sample i depend on latent i alone).
    """
    # Each step takes two calls. The grid ends where a network may still be called, not at t = 0.
    t = field.times(steps_for(nfe, 2), schedule, end="t_min")
    x = field.start(latents, t[0])
    for now, after in pairwise(t.tolist()):
        middle = (now + after) / 2
        x_middle = x + (middle - now) * field(x, now).velocity
        x = x + (after - now) * field(x_middle, middle).velocity
    return x
