"""GITS (arXiv 2405.11326): the time schedule by dynamic programming on a fine trajectory of a teacher.

x / alpha over sigma / alpha, EDM's coordinates, on every path: there x_j has the slope eps_j, and nodes j = 0 … M - 1
go from noise to data. A step from j to i leaves the teacher's trajectory; `costs` says how far, for all j < i.
"""

import torch

from fewstep import bellman, schedules
from fewstep.errors import UserError
from fewstep.inner import run
from fewstep.paths import Prediction

DISTANCES = ("dev", "l1", "l2")


def fit(task):
    p = task.params
    if p["distance"] not in DISTANCES:
        raise UserError(f"gits has the distances {', '.join(DISTANCES)}; got {p['distance']!r}")

    def cost_matrix():
        z = task.latents(p["samples"])
        sigma, x, eps = teach(task, z, task.solver(p["teacher"]), p["nodes"], p["end"])
        return {"sigma": sigma, "cost": costs(sigma, x, eps, p["distance"])}

    found = task.once("cost", cost_matrix)  # one matrix serves every number of steps
    most = min(max(task.nfes) + 1, p["nodes"] - 1)
    _, after = bellman.solve(found["cost"], most, p["gamma"])
    return task.state(**{f"sigma{n}": found["sigma"][bellman.path(after, n)] for n in range(1, most + 1)})


def sample(field, latents, nfe, fitted, inner="ipndm", teacher="ipndm", nodes=61, samples=128, distance="dev",
           gamma=1.15, end="zero"):  # fmt: skip
    def timesteps(n):
        if f"sigma{n}" not in fitted:
            raise UserError(f"no schedule of {n} steps was fitted; a teacher of {nodes} nodes has {nodes - 1} steps")
        sigma = fitted[f"sigma{n}"]
        t = field.path.time_at_ratio(sigma)
        t[0] = field.path.t_max  # where sigma / alpha is infinite on some paths, so not on the teacher's grid
        return t

    return run(inner, field, latents, nfe, timesteps)


def teach(task, z, teacher, M, end):
    """Levels sigma / alpha [M] of the fine grid; x / alpha [M, B, d] along the teacher's way; eps [M - 1, B, d]."""
    grid = None

    def timesteps(n):
        nonlocal grid
        grid = schedules.times(field.path, n, "karras", end)
        return grid

    field = task.field(z, timesteps=timesteps, record=True)
    path = field.path
    last = teacher(field, z, M - 1)
    called = torch.stack([t for t, _, _ in field.trajectory])
    if len(grid) != M or called.shape != grid[:-1].shape or not torch.allclose(called, grid[:-1], atol=1e-6):
        raise UserError("gits needs a teacher that calls the network once at each node of its grid")
    eps = [Prediction(path, x, t, velocity=v).eps for t, x, v in field.trajectory]
    x = [x for _, x, _ in field.trajectory] + [last]
    x = [x_j.double() / path.alpha(t).item() for x_j, t in zip(x, grid, strict=True)]
    return path.sigma(grid) / path.alpha(grid), torch.stack(x).flatten(2), torch.stack(eps).double().flatten(2)


def costs(sigma, x, eps, distance="dev"):
    """Cost[j, i] of Euler's step from node j to node i > j, a mean over the batch; infinite elsewhere. [M, M]

    dev: how much farther than the teacher the step leads from the chord, the line between the teacher's ends.
    l1, l2: the distance to the teacher.
    """
    M = len(sigma)
    chord = torch.nn.functional.normalize(x[-1] - x[0], dim=-1)

    def deviation(y):
        y = y - x[0]
        return (y - (y * chord).sum(-1, keepdim=True) * chord).norm(dim=-1)

    def cost(step, i):
        if distance == "dev":
            return deviation(step) - deviation(x[i])
        return (step - x[i]).norm(p=1 if distance == "l1" else 2, dim=-1)

    out = torch.full((M, M), torch.inf, dtype=torch.float64)
    for j in range(M - 1):
        for i in range(j + 1, M):
            out[j, i] = cost(x[j] + (sigma[i] - sigma[j]).item() * eps[j], i).mean()
    return out


def cost(params, nfes):
    """Network calls of the fit: one fine trajectory serves every NFE."""
    return params["samples"] * (params["nodes"] - 1)
