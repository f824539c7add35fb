"""What the plan needs to know of a dataset before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """family: "vector" or "image"; primary: the metric that ranks; exact: the field is known in closed form."""

    family: str
    shape: tuple[int, ...]
    primary: str
    exact: bool = False


DATASETS: dict[str, Facts] = {
    "moons": Facts("vector", (2,), "w2"),
    "eight_gaussians": Facts("vector", (2,), "w2"),
    "checkerboard": Facts("vector", (2,), "w2"),
    "mixture": Facts("vector", (2,), "ode_rmse", exact=True),
    "mixture64": Facts("vector", (64,), "ode_rmse", exact=True),
    "digits": Facts("image", (1, 8, 8), "fd_digits"),
}
