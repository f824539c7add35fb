"""Options that solvers share, and what they answer to bad ones: one line that names what is allowed."""

import pytest
import torch

from fewstep import registry
from fewstep.data.mixture import Mixture
from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.paths import EDM, PATHS, RF
from fewstep.schedules import SCHEDULES
from fewstep.shortcuts import analytical_first_step, model_of, threshold

MIXTURE = Mixture.of([0.4, 0.6], [[0.5, -0.2], [-0.4, 0.6]], 0.05)
Z = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
PLAIN = [id for id, m in registry.of_kind("solver").items() if m.verb("fit") is None and not m.preset]
CONVERGING = [id for id in PLAIN if registry.get(id, "solver").card.converges]
WITH_SCHEDULE = [id for id in CONVERGING if "schedule" in registry.get(id, "solver").card.params]
WITH_ORDER = [id for id in PLAIN if "order" in registry.get(id, "solver").card.params]


def run(id, nfe=12, path=None, **options):
    path = path or EDM()
    field = Field(MIXTURE.exact(path), path, "karras")
    method = registry.get(id, "solver")
    return method.verb("sample")(field, Z, nfe, **{**method.params("mixture"), **options})


def refusal(*args, **options):
    with pytest.raises(UserError) as error:
        run(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("id", WITH_SCHEDULE)
def test_bad_schedules(id):
    nfe = 13 if id == "heun" else 12
    assert "karras" in refusal(id, nfe, schedule="karas") and "did you mean" in refusal(id, nfe, schedule="karas")
    assert "must decrease" in refusal(id, nfe, schedule=[80.0, 1.0, 2.0, 0.5, 0.002])
    assert "sigma_min must be below sigma_max" in refusal(id, nfe, schedule={"name": "karras", "sigma_min": 90})
    assert "rho" in refusal(id, nfe, schedule={"name": "karras", "roh": 5})
    assert "list" in refusal(id, nfe, schedule=[80.0, 0.5])
    assert "zero, t_min" in refusal(id, nfe, end="nowhere") if "end" in registry.get(id, "solver").card.params else True


@pytest.mark.parametrize("id", WITH_ORDER)
def test_an_order_that_is_not_offered(id):
    for order in (-1, 9, 1.5):
        assert "has order" in refusal(id, order=order)


@pytest.mark.parametrize("id", [id for id in PLAIN if not registry.get(id, "solver").nfe.adaptive])
def test_an_nfe_below_the_minimum(id):
    rule = registry.get(id, "solver").nfe
    message = refusal(id, rule.first - 1)
    assert f"NFE {rule.first - 1} " in message
    assert ", ".join(str(rule.first + k * rule.step) for k in range(3)) in message


@pytest.mark.parametrize("id", WITH_SCHEDULE)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
def test_every_schedule_on_every_path(id, schedule, path):
    """Finite, and near the converged solution with many steps: no grid or path is an exception.

    Uniform in sigma on EDM has a step of 0.3 at the end, where all the rest of the others' grids lies.
    """
    from evaluation.trajectories import converged

    nfe = 241 if id == "heun" else 240
    x = run(id, nfe, path, schedule=schedule)
    truth = converged(Field(MIXTURE.exact(path), path, "karras"), Z)
    assert (x - truth).abs().max() < (1.0 if (path.name, schedule) == ("edm", "uniform") else 0.1)


def test_a_list_of_levels_and_a_range_of_ones_own():
    levels = [80.0, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002]
    field = Field(MIXTURE.exact(RF()), RF(), "uniform")
    t = field.times(6, levels, "t_min")
    torch.testing.assert_close(t / (1 - t), torch.tensor(levels, dtype=torch.float64))
    t = Field(MIXTURE.exact(EDM()), EDM(), "karras").times(
        4, {"name": "karras", "rho": 1, "sigma_min": 1.0, "sigma_max": 9.0}, "t_min"
    )
    torch.testing.assert_close(t, torch.tensor([9.0, 7.0, 5.0, 3.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
def test_the_analytical_first_step_is_the_field_of_unit_gaussian_data(path):
    """For x_0 ~ N(0, I), eps = sigma x / (alpha^2 + sigma^2); AFS drops the factor sigma / r, near 1 at t_max."""
    t = torch.tensor(path.t_max, dtype=torch.float64)
    p = analytical_first_step(path, Z, t)
    exact = Mixture.of([1.0], [[0.0, 0.0]], 1.0).exact(path)(Z, t)
    torch.testing.assert_close(p.eps, exact.eps, rtol=1e-3, atol=0)
    torch.testing.assert_close(path.alpha(t) * p.x0 + path.sigma(t) * p.eps, Z)


def test_thresholding_clips_to_the_quantile_and_is_off_by_default():
    x0 = torch.tensor([[0.5, -0.25, 0.1], [4.0, -1.0, 2.0]])
    torch.testing.assert_close(threshold(x0, 1.0), torch.tensor([[0.5, -0.25, 0.1], [1.0, -0.25, 0.5]]))
    for id in WITH_SCHEDULE:
        assert not registry.get(id, "solver").card.params.get("thresholding")
    field = Field(MIXTURE.exact(EDM()), EDM(), "karras")
    assert model_of(field) is field
    for id in WITH_SCHEDULE:  # whoever offers it clips: data outside [-1, 1] comes out inside
        if "thresholding" in registry.get(id, "solver").card.params:
            far = Mixture.of([1.0], [[3.0, -3.0]], 0.01)
            method = registry.get(id, "solver")
            options = method.params("mixture") | {"thresholding": 1.0}
            x = method.verb("sample")(Field(far.exact(EDM()), EDM(), "karras"), Z, 12, **options)
            assert x.abs().max() < 1.1
    with pytest.raises(UserError, match="quantile"):
        model_of(field, thresholding=2.0)
