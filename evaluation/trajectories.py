"""Paths of samples in one parametrisation for all: z = x / (alpha + sigma) over u = sigma / (alpha + sigma).

Every path is mapped to the straight one, on which x_u = (1 - u) x_0 + u eps and dz/du = eps - x_0, so that curvature
compares across EDM, RF, SI and VP.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from fewstep import schedules
from fewstep.field import Field
from fewstep.paths import EDM, like


def straight_velocity(field: Field, z: Tensor, u: Tensor) -> Tensor:
    """dz/du = E[eps - x_0] at z [B, ...] and noise fraction u (float64, a scalar or [B])."""
    path = field.path
    t = path.time_at(u)
    prediction = field(like(path.alpha(t) + path.sigma(t), z) * z, t)
    return prediction.eps - prediction.x0


def start(field: Field, latents: Tensor) -> tuple[Tensor, Tensor]:
    """z at t_max and its noise fraction u."""
    t = torch.tensor(field.path.t_max, dtype=torch.float64)
    u = field.path.fraction(t)
    return like(u, latents) * field.noise_of(latents), u


def euler_path(field: Field, latents: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Euler with n steps on the uniform grid from u_max to 0.

    Returns z [n + 1, B, ...] with the noise end first, the nodes u [n + 1], and dz/du at the first n [n, B, ...].
    """
    z, u_max = start(field, latents)
    nodes = u_max * (1 - torch.arange(n + 1, dtype=torch.float64) / n)
    path, slopes = [z], []
    for now, after in pairwise(nodes):
        slopes.append(straight_velocity(field, z, now))
        z = z + like(after - now, z) * slopes[-1]
        path.append(z)
    return torch.stack(path), nodes, torch.stack(slopes)


def converged(field: Field, latents: Tensor, n: int = 48) -> Tensor:
    """The ODE's solution x_0 [B, ...] from these latents: torchdiffeq's fourth-order rule, n Karras steps, in float64.

    Fixed steps on purpose: an adaptive rule chases the rounding noise of a float32 network near the data and stalls.
    The grid is EDM's, sigma / alpha from 80 to 0.002, on every path; it ends with a call at 0.002, from where the last
    step to 0 returns the denoised image.
    """
    from torchdiffeq import odeint

    z, u_max = start(field, latents.double())
    edm = EDM()
    nodes = edm.fraction(schedules.times(edm, n, "karras", schedules.T_MIN))
    if nodes[0] < u_max:
        nodes = torch.cat([u_max.reshape(1), nodes])
    z = odeint(lambda u, z: straight_velocity(field, z, u.cpu()), z, nodes.to(z.device), method="rk4")[-1]
    u_end = nodes[-1]
    return (z - u_end.item() * straight_velocity(field, z, u_end)).to(latents.dtype)
