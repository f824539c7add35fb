"""Reflow (arXiv 2209.03003, algorithm 1, k > 1): (Z_0, Z_1) = ODE of v_{k-1}; fit v_k to the lines between them.

Its last stage distils: the same pairs, at the k times alone at which k Euler steps call the network.
"""

from functools import partial

import torch

from fewstep.errors import UserError
from fewstep.losses import uniform, velocity_matching
from fewstep.perceptual import lpips
from fewstep.rectify import fit_to_pairs
from fewstep.suggest import one_of


def fit(task):
    p = task.params
    loss = partial(distil, k=p["distil"], distance=distance_of(p, task.device)) if p["distil"] else rectify
    return task.state(fit_to_pairs(task, task.student(), task.pairs(), loss))


def rectify(model, x0, z, rng):
    """Match the velocity of the line from x0 to z at uniform times."""
    return velocity_matching(model, x0, z, uniform(len(x0), rng))


def distil(model, x0, z, rng, k, distance):
    """Match it at the times 1, (k - 1) / k, …, 1 / k of k Euler steps; k = 1 may compare images instead."""
    t = (1 + torch.randint(k, (len(x0),), generator=rng)) / k * model.path.t_max
    if distance is None:
        return velocity_matching(model, x0, z, t)
    return distance(model(model.path.interpolate(x0, z, t), t).x0, x0)


def distance_of(p, device):
    """How images are compared; None: velocities are, which on the straight path is L2 of the images."""
    kind = one_of("distance", p["distance"], ["l2", "lpips", "lpips+l2"])
    if kind == "l2":
        return None
    if p["distil"] != 1:
        raise UserError(f"distance: {kind} compares the images of one step; set distil: 1")
    perceptual = lpips(device)
    share = float(kind == "lpips+l2")
    return lambda x, y: perceptual(x, y).mean() + share * (x - y).square().mean()
