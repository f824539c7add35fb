"""The field on which solvers and schedulers are compared, and what counts as equal."""

import pytest
import torch
from torch import Tensor

from fewstep import registry
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import PATHS, Path, Prediction
from fewstep.schedules import times

MIXTURE = Mixture.of([0.3, 0.7], [[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, -0.5, 0.0]], 0.05)  # as in tests/methods
LATENTS = torch.tensor(
    [[1.0, -0.5, 0.25, 0.75], [-0.3, 0.8, -1.1, 0.2], [0.1, 0.4, 0.9, -1.6]], dtype=torch.float64
).reshape(3, 1, 2, 2)
WIDE = Mixture(MIXTURE.weights, 4 * MIXTURE.means, MIXTURE.variance)  # beyond [-1, 1], so that clipping shows
BAR = 1e-4  # of the relative difference; many schedulers compute in float32
QUIET = [pytest.mark.filterwarnings(f"ignore::{kind}:diffusers") for kind in ("DeprecationWarning", "FutureWarning")]


def diffusers():
    """The package, or a skip of the module that asks."""
    return pytest.importorskip("diffusers", reason="diffusers isn't installed; `make parity` installs it")


def nodes(path: str, n: int, schedule: str, end: str = "t_min") -> Tensor:
    """n + 1 times of a path."""
    return times(PATHS[path](), n, schedule, end)


def field_on(path: str | Path, grid: Tensor | None = None, mixture: Mixture = MIXTURE) -> Field:
    """The mixture's exact field; solvers that ask it for a grid get `grid`."""
    path = PATHS[path]() if isinstance(path, str) else path
    return Field(mixture.exact(path), path, "karras", timesteps=None if grid is None else lambda n: grid)


def clipped(field: Field, keep_eps: bool = False) -> Field:
    """The same field, but for x_0 clipped to [-1, 1]; eps follows from it unless it is kept."""
    predict = field.predict

    def clip(x, t):
        p = predict(x, t)
        return Prediction(p.path, x, t, x0=p.x0.clamp(-1, 1), eps=p.eps if keep_eps else None)

    field.predict = clip
    return field


def ours(solver: str, field: Field, nfe: int, **params) -> Tensor:
    """Samples [3, 1, 2, 2] of one of our solvers."""
    x = registry.get(solver, "solver").verb("sample")(field, LATENTS, nfe, **params)
    assert field.calls == nfe
    return x


def difference(a: Tensor, b: Tensor) -> float:
    """The largest relative distance |a - b| / |b| over the samples."""
    a, b = a.double().flatten(1), b.double().flatten(1)
    return ((a - b).norm(dim=1) / b.norm(dim=1)).max().item()
