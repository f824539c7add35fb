"""Drives a scheduler of Hugging Face diffusers over one of our fields, on the nodes that our solvers get.

Schedulers come with tables of their own, in float32 and on their own grid. `run` writes the given nodes over them, so
that what is left to compare is the rule. Importing this file does not need diffusers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fewstep.field import Field
from fewstep.paths import Path, Prediction


def run(scheduler, field: Field, latents: Tensor, times: Tensor, **options) -> Tensor:
    """The scheduler's samples, from unit latents [B, C, H, W], on the nodes `times` [n + 1] (float64, noise to data).

    A single-step scheduler finds its intermediate points among the nodes. The sample is in the coordinates of the
    field's path: EDM for the schedulers after k-diffusion, VP for those after DDPM, RF for flow matching. `options` go
    to every step.
    """
    at = set_nodes(scheduler, field.path, times)
    scales_input = hasattr(scheduler, "scale_model_input")
    x = field.start(latents, at[0])
    for t, timestep in zip(at, scheduler.timesteps, strict=True):
        if scales_input:
            scheduler.scale_model_input(x, timestep)  # has to be called before a step; our fields scale by themselves
        x = scheduler.step(model_output(scheduler, field(x, t)), timestep, x, return_dict=False, **options)[0]
    return x


def set_nodes(scheduler, path: Path, times: Tensor) -> list[float]:
    """Write the nodes into the scheduler's tables, forget its history, and return the time of each network call."""
    n, name = len(times) - 1, type(scheduler).__name__
    scheduler.set_timesteps(n)
    at = times[:-1]
    if name == "DDIMScheduler":  # steps of one training step, so it has to be made for n of them
        scheduler.alphas_cumprod = path.alpha(at).flip(0) ** 2
        scheduler.final_alpha_cumprod = path.alpha(times[-1]) ** 2
        return at.tolist()
    if name == "IPNDMScheduler":
        scheduler.betas, scheduler.alphas = path.sigma(times), path.alpha(times)
    else:
        scheduler.sigmas = path.clock(times)
    if "Heun" in name:  # an inner node is where one step is corrected and the next one starts
        first, inner, last = scheduler.sigmas[:1], scheduler.sigmas[1:-1], scheduler.sigmas[-1:]
        scheduler.sigmas = torch.cat([first, inner.repeat_interleave(2), last])
        at = torch.cat([times[:1], times[1:-1].repeat_interleave(2), times[-1:][times[-1:] > 0]])
    scheduler.timesteps = torch.arange(len(at), 0, -1, dtype=torch.float64)  # names only: the index is what counts
    scheduler.set_begin_index(0)
    return at.tolist()


def model_output(scheduler, p: Prediction) -> Tensor:
    """A prediction in the form that the scheduler expects from its network."""
    name, kind = type(scheduler).__name__, scheduler.config.get("prediction_type")
    if name.startswith("EDM"):  # F of x0 = c_skip x + c_out F (arXiv 2206.00364, table 1)
        sigma, sd = float(p.t), scheduler.config.sigma_data
        norm = math.hypot(sigma, sd)
        return (p.x0 - (sd / norm) ** 2 * p.x) * (norm / (sigma * sd))
    if name == "IPNDMScheduler":  # v = alpha eps - sigma x0 (arXiv 2202.00512, appendix D)
        return float(p.path.alpha(p.t)) * p.eps - float(p.path.sigma(p.t)) * p.x0
    if name.startswith("FlowMatch") or kind == "flow_prediction":
        return p.velocity
    return p.eps


def split(path: Path, outer: Tensor, parts: list[int]) -> Tensor:
    """`outer` with step i cut into parts[i] pieces that are equal in lambda: all nodes of a single-step rule."""
    lam = path.lam(outer)
    nodes = []
    for i, k in enumerate(parts):
        inner = [lam[i] + (lam[i + 1] - lam[i]) * j / k for j in range(1, k)]
        nodes += [outer[i], *(path.time_at_lambda(s) for s in inner)]
    return torch.stack([*nodes, outer[-1]])


def last(times: Tensor) -> dict[str, Any]:
    """The option by which most schedulers are told where the grid ends."""
    return {"final_sigmas_type": "sigma_min" if times[-1] > 0 else "zero"}
