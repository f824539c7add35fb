"""Time grids against the nodes tabulated for sigma from 80 to 0.002."""

import pytest
import torch

from fewstep.errors import UserError
from fewstep.paths import EDM, PATHS, RF, VP
from fewstep.schedules import SCHEDULES, times

# diff-sampler's grids for N = 5, sigma_min 0.002, sigma_max 80.
KARRAS = [80, 24.408342, 5.838948, 0.965417, 0.085087, 0.002]
LOGSNR = [80, 9.608995, 1.154160, 0.138629, 0.016651, 0.002]
TIME_UNIFORM = [80, 16.506206, 4.746338, 1.754111, 0.650216, 0.002]
TIME_QUADRATIC = [80, 6.292340, 1.559965, 0.556002, 0.150343, 0.002]


@pytest.mark.parametrize("name, nodes", [("karras", KARRAS), ("lambda", LOGSNR)])
def test_edm_grids(name, nodes):
    expected = torch.tensor(nodes, dtype=torch.float64)
    torch.testing.assert_close(times(EDM(), 5, name, "t_min"), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name, nodes", [("uniform", TIME_UNIFORM), ("quadratic", TIME_QUADRATIC)])
def test_vp_grids(name, nodes):
    """The VP path whose sigma / alpha runs from 80 to 0.002, in its own time."""
    path = VP(beta_d=17.537957, beta_min=-0.004769)
    t = times(path, 5, name, "t_min")
    ratio = path.sigma(t) / path.alpha(t)
    torch.testing.assert_close(ratio[:5], torch.tensor(nodes[:5], dtype=torch.float64), rtol=1e-5, atol=1e-6)
    assert ratio[5].item() == pytest.approx(0.002, rel=2e-2)  # beta_min is printed with four digits


@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_grid_decreases_and_ends_where_asked(path, name, n):
    to_zero, to_t_min = times(path, n, name), times(path, n, name, "t_min")
    assert len(to_zero) == len(to_t_min) == n + 1
    assert to_zero[-1] == 0
    assert to_t_min[-1] >= 0
    for t in (to_zero, to_t_min):
        assert (t[1:] < t[:-1]).all() and t[0] <= path.t_max * (1 + 1e-9)
        assert (path.lam(t[:-1])[1:] > path.lam(t[:-1])[:-1]).all()


def test_lambda_grid_is_uniform_in_lambda():
    lam = RF().lam(times(RF(), 8, "lambda", "t_min"))
    torch.testing.assert_close(lam.diff(), torch.full((8,), lam.diff().mean().item(), dtype=torch.float64))


@pytest.mark.parametrize("arguments", [(5, "karas"), (5, "karras", "nowhere"), (0, "karras")])
def test_bad_schedules_are_one_line(arguments):
    with pytest.raises(UserError) as error:
        times(EDM(), *arguments)
    assert "\n" not in str(error.value)
