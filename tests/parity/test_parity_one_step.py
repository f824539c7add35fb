"""Euler, DDIM and Heun against diffusers, and the grids of EDM.

Heun's churn has no peer: HeunDiscreteScheduler fixes gamma = 0, and FlowMatchHeunDiscreteScheduler's churn adds noise
as if alpha were 1, on a path where it is not.
"""

import pytest
import torch
from peers import run
from problem import BAR, LATENTS, QUIET, WIDE, clipped, difference, diffusers, field_on, nodes, ours

D = diffusers()
pytestmark = QUIET
ENDS = pytest.mark.parametrize("end", ["t_min", "zero"])


@ENDS
@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "EDMEulerScheduler"])
def test_euler(scheduler, end):
    grid = nodes("edm", 6, "karras", end)
    theirs = run(getattr(D, scheduler)(), field_on("edm"), LATENTS, grid)
    assert difference(ours("euler", field_on("edm", grid), 6, end=end), theirs) < BAR


@ENDS
def test_ddim(end):
    grid = nodes("vp", 6, "quadratic", end)
    theirs = run(D.DDIMScheduler(num_train_timesteps=6, clip_sample=False), field_on("vp"), LATENTS, grid)
    assert difference(ours("ddim", field_on("vp", grid), 6, end=end), theirs) < BAR


def test_ddim_differs_where_it_clips():
    """arXiv 2010.02502, eq. 12, takes x_0 as predicted. DDIMScheduler clips it to [-1, 1] unless told not to, and keeps
    eps as predicted.

    With such an x_0 in our rule, the samples agree.
    """
    grid = nodes("vp", 6, "quadratic", "zero")
    theirs = run(D.DDIMScheduler(num_train_timesteps=6), field_on("vp", mixture=WIDE), LATENTS, grid)
    assert difference(ours("ddim", field_on("vp", grid, WIDE), 6), theirs) > 100 * BAR
    assert difference(ours("ddim", clipped(field_on("vp", grid, WIDE), keep_eps=True), 6), theirs) < BAR


@pytest.mark.parametrize("end, nfe", [("t_min", 12), ("zero", 11)])
def test_heun(end, nfe):
    grid = nodes("edm", 6, "karras", end)
    theirs = run(D.HeunDiscreteScheduler(), field_on("edm"), LATENTS, grid)
    assert difference(ours("heun", field_on("edm", grid), nfe, end=end), theirs) < BAR


@pytest.mark.parametrize("schedule", ["uniform", "karras"])
@pytest.mark.parametrize("solver, nfe, scheduler", [
    ("euler", 6, "FlowMatchEulerDiscreteScheduler"), ("heun", 11, "FlowMatchHeunDiscreteScheduler")
])  # fmt: skip
def test_flow_matching(solver, nfe, scheduler, schedule):
    grid = nodes("rf", 6, schedule, "zero")
    theirs = run(getattr(D, scheduler)(), field_on("rf"), LATENTS, grid)
    assert difference(ours(solver, field_on("rf", grid), nfe), theirs) < BAR


@pytest.mark.parametrize("schedule, name", [("karras", "karras"), ("lambda", "exponential")])
def test_grid_of_edm(schedule, name):
    """n steps that end at 0: n - 1 intervals from 80 to 0.002, and one to 0 (arXiv 2206.00364, eq. 5)."""
    scheduler = D.EDMEulerScheduler(sigma_schedule=name)
    scheduler.set_timesteps(6)
    torch.testing.assert_close(scheduler.sigmas.double(), nodes("edm", 6, schedule, "zero"), rtol=1e-6, atol=0)
