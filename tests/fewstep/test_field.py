"""The metered field: every call is counted for the samples that it was made for."""

import pytest
import torch

from fewstep.errors import BudgetExceeded, FewstepError, UserError
from fewstep.field import Field, steps_for
from fewstep.grid import Grid
from fewstep.paths import EDM, PATHS, RF, SI, Prediction
from fewstep.seeds import SampleRng


def echo(x, t, **condition):
    """A predictor that tells its condition as x0."""
    return Prediction(EDM(), x, t, x0=condition.get("code", torch.zeros_like(x)))


def test_calls_with_some_samples_are_theirs_alone():
    field = Field(echo, EDM(), "karras", budget=2)
    x = torch.ones(3, 1)
    field(x, 1.0)
    field(x[[1, 2]], 1.0, torch.tensor([1, 2]), 3)
    assert (field.calls, field.nfe, field.evaluations) == (2, pytest.approx(5 / 3), 5)
    field(x[[0]], 1.0, torch.tensor([0]), 3)  # sample 0 has had one call yet
    with pytest.raises(BudgetExceeded, match="call 3"):
        field(x[[2]], 1.0, torch.tensor([2]), 3)
    with pytest.raises(BudgetExceeded):
        field(x, 1.0)


def test_a_condition_goes_with_its_samples():
    code = torch.tensor([[1.0], [2.0], [3.0]])
    field = Field(echo, EDM(), "karras", condition={"code": code})
    assert field(torch.zeros(1, 1), 1.0, torch.tensor([2]), 3).x0.item() == 3


def test_the_graph_is_kept_only_when_asked_for():
    x = torch.ones(2, 1, requires_grad=True)
    assert not Field(lambda x, t: Prediction(EDM(), x, t, x0=2 * x), EDM(), "karras")(x, 1.0).x0.requires_grad
    assert Field(lambda x, t: Prediction(EDM(), x, t, x0=2 * x), EDM(), "karras", grad=True)(x, 1.0).x0.requires_grad


def test_noise_belongs_to_the_sample():
    x = torch.zeros(3, 2)
    noise = Field(echo, EDM(), "karras", rng=SampleRng("moons", 0, [0, 1, 2])).noise("churn0", x)
    turned = Field(echo, EDM(), "karras", rng=SampleRng("moons", 0, [2, 1, 0])).noise("churn0", x)
    assert torch.equal(noise, turned.flip(0)) and len(noise.unique()) == 6
    with pytest.raises(FewstepError, match="rng"):
        Field(echo, EDM(), "karras").noise("churn0", x)


def test_an_accelerators_grid_must_decrease():
    with pytest.raises(UserError, match="must decrease"):
        Field(echo, EDM(), "karras", timesteps=lambda n: torch.tensor([1.0, 2.0, 0.0])).times(2)


@pytest.mark.parametrize(
    "nfe, options, steps",
    [
        (5, {}, 5),
        (6, {"calls": 2}, 3),
        (5, {"calls": 2, "end": "zero"}, 3),
        (1, {"calls": 2, "end": "zero"}, 1),
        (5, {"afs": True}, 6),
        (5, {"calls": 2, "afs": True}, 3),
        (4, {"calls": 2, "end": "zero", "afs": True}, 3),
        (9, {"calls": 4, "end": "zero"}, 3),
    ],
)
def test_steps(nfe, options, steps):
    assert steps_for(nfe, **options) == steps


@pytest.mark.parametrize(
    "nfe, options, allowed", [(5, {"calls": 2}, "2, 4, 6"), (0, {}, "1, 2, 3"), (3, {"calls": 4}, "4, 8, 12")]
)
def test_steps_that_cannot_be_made(nfe, options, allowed):
    with pytest.raises(UserError, match=allowed):
        steps_for(nfe, **options)


@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
@pytest.mark.parametrize("end", ["zero", "t_min"])
def test_grids_for_lambda_are_finite(path, end):
    """Even uniform in time, where RF and SI start without data: only a last node at sigma = 0 has no lambda."""
    for n, schedule in ((1, "uniform"), (6, "uniform"), (240, "quadratic"), (1500, "uniform")):
        grid = Field(echo, path, "uniform").grid(n, schedule, end)
        lam = torch.tensor(grid.lam, dtype=torch.float64)
        assert lam[:-1].isfinite().all() and (lam.diff() > 0).all()
        assert lam[-1].isfinite() == (end == "t_min") and grid.n == n
    alpha, sigma = (torch.tensor(values, dtype=torch.float64) for values in (grid.alpha, grid.sigma))
    torch.testing.assert_close(lam[:-1], (alpha.log() - sigma.log())[:-1])


def test_where_the_first_node_of_a_grid_moves():
    for path in (RF(), SI()):
        t = torch.tensor([path.t_max, 0.5, 0.0], dtype=torch.float64)
        assert path.fraction(Grid.of(path, t, end_finite=False).t[0]).item() == pytest.approx(0.999)
        assert t[0] == path.t_max, "the caller's times were changed"
    t = torch.tensor([90.0, 1.0, 0.0], dtype=torch.float64)
    assert Grid.of(EDM(), t, end_finite=False).t == [90, 1, 0]


@pytest.mark.parametrize(
    "solver", ["heun", "rk4", "midpoint-zero", "rk4-zero", "heun-full", "dpm_solver_pp-2s", "unipc"]
)
def test_an_accelerators_grid_ends_where_the_solver_does(solver):
    """An EDM network has no value at sigma = 0, and a last step to 0 takes one call, whatever the grid ends at."""
    from fewstep import registry
    from fewstep.data.mixture import Mixture

    method, exact = registry.get(solver, "solver"), Mixture.of([1.0], [[0.3]], 0.1).exact(EDM())

    def predict(x, t):
        assert torch.as_tensor(t).min() > 0, "called at sigma = 0"
        return exact(x, t)

    nfe = method.nfe.first + 2 * method.nfe.step
    for last in (0.0, 0.002):
        grid = lambda n, last=last: torch.cat([torch.linspace(80, 1, n).double(), torch.tensor([last]).double()])  # noqa: E731
        field = Field(predict, EDM(), "karras", timesteps=grid, budget=nfe)
        x = method.verb("sample")(field, torch.ones(2, 1, dtype=torch.float64), nfe, **method.params("mixture"))
        assert x.isfinite().all() and field.calls == nfe
    with pytest.raises(UserError, match="3 nodes"):
        Field(predict, EDM(), "karras", timesteps=lambda n: torch.tensor([3.0, 2.0, 1.0])).times(5)
