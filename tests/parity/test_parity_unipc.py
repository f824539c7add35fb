"""UniPC against diffusers, and thresholding, which it shares with DPM-Solver++."""

import pytest
from peers import last, run
from problem import BAR, LATENTS, QUIET, WIDE, clipped, difference, diffusers, field_on, nodes, ours

D = diffusers()
pytestmark = QUIET
ORDERS = pytest.mark.parametrize("order", [1, 2, 3])
VARIANTS = pytest.mark.parametrize("variant", ["bh1", "bh2"])


@VARIANTS
@ORDERS
@pytest.mark.parametrize("n", [6, 20])
@pytest.mark.parametrize("lower", [True, False])
def test_unipc(order, variant, n, lower):
    grid = nodes("vp", n, "karras")
    options = {"solver_order": order, "solver_type": variant, "lower_order_final": lower, **last(grid)}
    theirs = run(D.UniPCMultistepScheduler(**options), field_on("vp"), LATENTS, grid)
    mine = ours("unipc", field_on("vp", grid), n, order=order, variant=variant, lower_order_final=lower)
    assert difference(mine, theirs) < BAR


@ORDERS
def test_unipc_to_zero(order):
    grid = nodes("vp", 6, "lambda", "zero")
    theirs = run(D.UniPCMultistepScheduler(solver_order=order, **last(grid)), field_on("vp"), LATENTS, grid)
    assert difference(ours("unipc", field_on("vp", grid), 6, order=order, end="zero"), theirs) < BAR


@VARIANTS
@ORDERS
def test_unipc_on_rf(order, variant):
    grid = nodes("rf", 6, "lambda")
    options = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_type": variant, **last(grid)}
    theirs = run(D.UniPCMultistepScheduler(solver_order=order, **options), field_on("rf"), LATENTS, grid)
    assert difference(ours("unipc", field_on("rf", grid), 6, order=order, variant=variant), theirs) < BAR


@ORDERS
def test_unipc_bh1_to_zero_differs_by_a_nan(order):
    """At sigma = 0, h is infinite and so is B(h) = h of bh1 (arXiv 2302.04867, §3.1); the step is D alone.

    diffusers multiplies that infinity by the empty sum of order 1. Its last D, before that step, is our sample.
    """
    grid = nodes("vp", 6, "lambda", "zero")
    scheduler = D.UniPCMultistepScheduler(solver_order=order, solver_type="bh1", **last(grid))
    assert run(scheduler, field_on("vp"), LATENTS, grid).isnan().all()
    mine = ours("unipc", field_on("vp", grid), 6, order=order, variant="bh1", end="zero")
    assert difference(mine, scheduler.model_outputs[-1]) < BAR


@pytest.mark.parametrize("solver, scheduler", [
    ("unipc", "UniPCMultistepScheduler"), ("dpm_solver_pp", "DPMSolverMultistepScheduler")
])  # fmt: skip
def test_thresholding_differs_in_its_bound(solver, scheduler):
    """Dynamic thresholding (arXiv 2205.11487, §2.3) on data wide enough to be clipped.

    diffusers also bounds the threshold by `sample_max_value`, 1 unless set, and so clips at 1 and scales nothing.
    With x_0 clipped like that our rule gives diffusers' samples.
    """
    grid = nodes("vp", 6, "lambda")

    def theirs(**options):
        options |= {"thresholding": True, "dynamic_thresholding_ratio": 0.9, **last(grid)}
        return run(getattr(D, scheduler)(**options), field_on("vp", mixture=WIDE), LATENTS, grid)

    free, mine = (ours(solver, field_on("vp", grid, WIDE), 6, thresholding=quantile) for quantile in (None, 0.9))
    assert difference(mine, free) > 100 * BAR
    assert difference(mine, theirs(sample_max_value=1e6)) < BAR
    assert difference(mine, theirs()) > 100 * BAR
    assert difference(ours(solver, clipped(field_on("vp", grid, WIDE)), 6), theirs()) < BAR
