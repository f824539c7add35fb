"""Reflow (arXiv 2209.03003, algorithm 1, k > 1): (Z_0, Z_1) = ODE of v_{k-1}; fit v_k to the lines between them."""

import copy

import torch

from fewstep.losses import uniform, velocity_matching
from fewstep.pairs import make_pairs
from fewstep.training import train


def fit(task):
    p = task.params
    model = task.baseline
    for k in range(1, p["rounds"] + 1):
        z, x0 = make_pairs(task, model, p["pairs"], p["pair_solver"], p["pair_nfe"], f"round{k}")
        model = rectify(task, copy.deepcopy(model).requires_grad_(True), z, x0, f"round{k}")
    return task.state(model)


def rectify(task, student, z, x0, name):
    """One round: match the velocity of the line from x0 to z, warm-started from the model that made the pairs."""

    def draw(n, rng):
        return torch.randint(len(z), (n,), generator=rng)

    def loss(model, pairs, rng):
        i = pairs.cpu()
        return velocity_matching(model, x0[i].to(task.device), z[i].to(task.device), uniform(len(i), rng))

    return train(task, student, loss, name=name, draw=draw)
