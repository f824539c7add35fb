"""Every solver's order of convergence, regressed on an exact field, reaches what its method.yaml declares.

`order` holds as the rule runs, on its own grid; `order_graded` on a grid whose first and last steps are small, so that
a multistep rule's start by Euler and its end by a lower order don't count: the order that the literature states.
New solver folders are tested without an edit here.
"""

from functools import cache

import numpy as np
import pytest
import torch
from fitting import fit_on
from scipy.integrate import solve_ivp

from fewstep import registry
from fewstep.calibration import bind
from fewstep.data.dataset import Dataset
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import PATHS

MIXTURE = Mixture.of([0.3, 0.7], [[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, -0.5, 0.0]], 0.05)
LATENTS = torch.tensor([[1.0, -0.5, 0.25, 0.75], [-0.3, 0.8, -1.1, 0.2]], dtype=torch.float64)
SCHEDULE = {
    registry.get(b, "baseline").card.path: registry.get(b, "baseline").card.schedule
    for b in ("edm", "rf", "si", "ddpm")
}
STEPS, FINE_STEPS = (128, 256, 512), (256, 512, 1024)


class FourDimensional(Dataset):
    """The mixture as a dataset, for solvers that look at data."""

    shape = (4,)


DATASET = FourDimensional("mixture", MIXTURE.draw(2000, torch.Generator().manual_seed(0)), MIXTURE.draw, MIXTURE.exact)


@cache
def exact(path_name: str, t_from: float, t_to: float) -> torch.Tensor:
    """The ODE's solution by scipy's DOP853, in the noise fraction u (dz/du = eps - x_0), an independent route."""
    path = PATHS[path_name]()
    predict = MIXTURE.exact(path)
    u = lambda t: float(path.fraction(t))  # noqa: E731
    weight = lambda t: float(path.alpha(t) + path.sigma(t))  # noqa: E731
    start, end = (torch.tensor(t, dtype=torch.float64) for t in (t_from, t_to))

    def slope(at, z):
        t = path.time_at(torch.tensor(at, dtype=torch.float64))
        p = predict(torch.from_numpy(z.reshape(2, 4)) * weight(t), t)
        return (p.eps - p.x0).numpy().ravel()

    z0 = (path.sigma(start) * LATENTS / weight(start)).numpy().ravel()
    solution = solve_ivp(slope, (u(start), u(end)), z0, method="DOP853", rtol=1e-13, atol=1e-14)
    assert solution.success
    return torch.from_numpy(solution.y[:, -1].reshape(2, 4)) * weight(end)


def cases(which: str):
    """Every solver and preset that has an order: one that is learnt for each NFE (order 0) or adds noise has none."""
    for id, method in registry.of_kind("solver").items():
        if getattr(method, which) and not method.stochastic and not method.nfe.adaptive:
            for path in PATHS:
                yield pytest.param(method, path, id=f"{id}-{path}")


@cache
def sampler(id: str, path_name: str):
    """`sample(field, latents, nfe)`; the last step to sigma = 0 is first order by design, so grids stop before it."""
    method = registry.get(id, "solver")
    path, params = PATHS[path_name](), method.params("mixture")
    if "end" in params:
        params["end"] = "t_min"
    learnt = None
    if method.verb("fit") is not None:
        make_field = lambda indices, z, **options: Field(MIXTURE.exact(path), path, SCHEDULE[path_name], **options)  # noqa: E731
        learnt = fit_on(
            method,
            DATASET,
            make_field,
            (*STEPS, *FINE_STEPS),
            path_name,
            **{k: params[k] for k in ("end",) if k in params},
        )
    return bind(method, params, learnt)


def errors(method, path_name: str, steps, timesteps=None) -> list[float]:
    """Distance to the ODE's solution after each number of steps."""
    path, params = PATHS[path_name](), method.params("mixture")
    per_step, found = max(method.nfe.step, 1), []
    for n in steps:
        nfe = n * per_step - params.get("afs", False)
        field = Field(MIXTURE.exact(path), path, SCHEDULE[path_name], timesteps=timesteps)
        x = sampler(method.id, path_name)(field, LATENTS, nfe)
        assert field.calls == nfe
        nodes = field.times(n, params.get("schedule", "auto"), "t_min")
        found.append((x - exact(path_name, float(nodes[0]), float(nodes[-1]))).norm().item())
    return found


def regressed(found: list[float]) -> float:
    """Minus the slope of log error over log steps, which double each time."""
    return -np.polyfit(np.log(2) * np.arange(len(found)), np.log(found), 1)[0]


@pytest.mark.parametrize("method, path_name", list(cases("order")))
def test_order(method, path_name):
    found = errors(method, path_name, STEPS)
    assert regressed(found) >= method.order - 0.2, f"order {regressed(found):.2f} from errors {found}"


def graded(path):
    """n -> n + 1 times, uniform in lambda but for steps that shrink like 1 / n^2 towards both ends."""
    first, last = (float(torch.logit(torch.tensor(1 - u, dtype=torch.float64))) for u in (path.u_max, path.u_min))

    def timesteps(n: int) -> torch.Tensor:
        s = torch.arange(n + 1, dtype=torch.float64) / n
        return path.time_at_lambda(first + (last - first) * s**2 * (3 - 2 * s))

    return timesteps


@pytest.mark.parametrize("method, path_name", list(cases("order_graded")))
def test_order_with_a_fine_start(method, path_name):
    found = errors(method, path_name, FINE_STEPS, graded(PATHS[path_name]()))
    assert regressed(found) >= method.order_graded - 0.2, f"order {regressed(found):.2f} from errors {found}"


@pytest.mark.parametrize("path_name", PATHS)
def test_the_published_3m_is_of_second_order(path_name):
    """Half the second derivative is missing in DPM-Solver++(3M), however fine its start; ETD-AB3 has all of it."""
    method = registry.get("dpm_solver_pp-3m", "solver")
    assert regressed(errors(method, path_name, FINE_STEPS, graded(PATHS[path_name]()))) < 2.5
