"""Every solver's order of convergence, regressed on an exact field, reaches what its method.yaml declares.

New solver folders are tested without an edit here.
"""

from functools import cache

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fewstep import registry
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import PATHS

MIXTURE = Mixture.of([0.3, 0.7], [[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, -0.5, 0.0]], 0.05)
LATENTS = torch.tensor([[1.0, -0.5, 0.25, 0.75], [-0.3, 0.8, -1.1, 0.2]], dtype=torch.float64)
SCHEDULE = {
    registry.get(b, "baseline").card.path: registry.get(b, "baseline").card.schedule
    for b in ("edm", "rf", "si", "ddpm")
}
STEPS = (128, 256, 512)


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
    solution = solve_ivp(slope, (u(start), u(end)), z0, method="DOP853", rtol=1e-11, atol=1e-12)
    assert solution.success
    return torch.from_numpy(solution.y[:, -1].reshape(2, 4)) * weight(end)


def cases():
    """Every solver and preset that has an order: one that is learnt for each NFE (order 0) or adds noise has none."""
    for id, method in registry.of_kind("solver").items():
        for path in PATHS:
            if method.order and not method.stochastic:
                yield pytest.param(method, path, id=f"{id}-{path}")


@pytest.mark.parametrize("method, path_name", list(cases()))
def test_order(method, path_name):
    path = PATHS[path_name]()
    params = method.params("mixture")
    if "end" in params:
        params["end"] = "t_min"  # the last step to sigma = 0 is first order by design
    errors = []
    per_step = max(method.nfe.step, 1)
    for n in STEPS:
        nfe = n * per_step
        field = Field(MIXTURE.exact(path), path, SCHEDULE[path_name], record=True)
        x = method.verb("sample")(field, LATENTS, nfe, **params)
        assert field.calls == nfe
        nodes = field.times(nfe // per_step, params.get("schedule", "auto"), "t_min")
        errors.append((x - exact(path_name, float(nodes[0]), float(nodes[-1]))).norm().item())
    order = -np.polyfit(np.log(STEPS), np.log(errors), 1)[0]
    assert order >= method.order - 0.2, f"order {order:.2f} from errors {errors}"
