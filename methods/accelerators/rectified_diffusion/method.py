"""Rectified Diffusion (arXiv 2410.07303): the teacher's pairs (x_0, eps) in place of data and noise; all else is kept.

x_t = alpha x_0 + sigma eps stays the diffusion's own form, network and parametrisation stay; what gets straight is
x / alpha over sigma / alpha, on which DDIM's steps are then exact (the paper's first-order path).
"""

from functools import partial

import torch

from fewstep.rectify import fit_to_pairs
from fewstep.schedules import times
from fewstep.suggest import one_of

LEVELS = 1000  # of the fine grid that training times are drawn from


def fit(task):
    p = task.params
    student = task.student()
    grid = times(student.path, LEVELS, task.schedule)[:-1]
    losses = {"baseline": task.loss, "x0": partial(x0_huber, c=p["c"], grid=grid)}
    loss = losses[one_of("loss", p["loss"], list(losses))]
    return task.state(fit_to_pairs(task, student, task.pairs(), loss))


def x0_huber(model, x0, eps, rng, c, grid):
    """The published code's loss: sqrt((x0_hat - x0)^2 + c^2) - c for each element, at levels that samplers call."""
    t = grid[torch.randint(len(grid), (len(x0),), generator=rng)]
    x0_hat = model(model.path.interpolate(x0, eps, t), t).x0
    return (((x0_hat - x0).square() + c**2).sqrt() - c).mean()
