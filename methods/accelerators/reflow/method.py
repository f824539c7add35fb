"""Reflow (arXiv 2209.03003, algorithm 1, k > 1): (Z_0, Z_1) = ODE of v_{k-1}; fit v_k to the lines between them."""

import copy

import torch

from fewstep.losses import uniform, velocity_matching
from fewstep.pairs import make_pairs
from fewstep.training import train


def fit(task):
    p = task.params
    model = task.baseline
    for k in range(p["rounds"]):
        z, x0 = make_pairs(task, model, p["pairs"], p["pair_solver"], p["pair_nfe"], f"round{k + 1}")

        def draw(n, rng):
            return torch.randint(len(z), (n,), generator=rng)

        def loss(student, indices, rng, z=z, x0=x0):
            i = indices.cpu()
            return velocity_matching(student, x0[i].to(task.device), z[i].to(task.device), uniform(len(i), rng))

        student = copy.deepcopy(model).requires_grad_(True)
        model = train(task, student, loss, name=f"round{k + 1}", draw=draw)
    return task.state(model)
