"""BOSS, stage 1 (arXiv 2312.16414): Bellman's optimal time steps, then the rule that they were found for.

x_0 … x_M is the rule's own fine trajectory, M = K_max, and c[j, k] what one jump from x_j to t_k is off x_k.
"""

import torch

from fewstep import bellman
from fewstep.errors import UserError
from fewstep.inner import run

# A jump of the rule is exact on a(t) u + b(t) w with constant u and w: dx/dt constant, or x_0 and eps constant.
EXACT_ON = {
    "euler": lambda path, t: (torch.ones_like(t), t),
    "ddim": lambda path, t: (path.alpha(t), path.sigma(t)),
}


def fit(task):
    p = task.params
    if p["rule"] not in EXACT_ON:
        raise UserError(f"bellman has the rules {', '.join(EXACT_ON)}; got {p['rule']!r}")

    def cost_matrix():
        path, t, x = trajectory(task, p["rule"], p["K_max"], p["samples"])
        return {"times": t, "cost": bellman.costs(x, *EXACT_ON[p["rule"]](path, t))}

    found = task.once("cost", cost_matrix)
    V, after = (torch.from_numpy(table) for table in bellman.solve(found["cost"], p["K_max"]))
    return task.state(times=found["times"], V=V, after=after)  # one table gives the steps of every K


def sample(field, latents, nfe, fitted, rule="euler", K_max=100, samples=100, taken_from=""):
    def timesteps(K):
        return fitted["times"][bellman.path(fitted["after"], K)]

    return run(rule, field, latents, nfe, timesteps)


def trajectory(task, rule, M, B):
    """The path, the fine times [M + 1], and the states [M + 1, B, *shape] of B latents along them."""
    z = task.latents(B)
    field = task.field(z, record=True)
    t = field.times(M)
    last = task.solver(rule)(field, z, M)
    return field.path, t, torch.stack([*(x for _, x, _ in field.trajectory), last])


def cost(params, nfes):
    """Network calls of the fit: one fine trajectory serves every NFE."""
    return params["samples"] * params["K_max"]
