"""What the plan needs to know of a dataset before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """family: "vector" or "image"; primary: the metric that ranks; exact: the field is known in closed form.

    extractors: the feature networks that judge it unless a study names others.
    """

    family: str
    shape: tuple[int, ...]
    primary: str
    exact: bool = False
    extractors: tuple[str, ...] = ()


# Names of the feature networks in evaluation/extractors, and of what can be computed on their features: Fréchet
# distance, kernel distance, precision with recall, density and coverage, distance to the nearest training image,
# Inception Score, Fréchet distance at infinity.
EXTRACTORS = ("digits", "lite0", "inception", "inception_pytorch", "dinov2")
# The same network in another library, whose value stands beside the first one's: choosing one brings the other.
SECOND_BACKEND = {"inception": "inception_pytorch"}
METRICS = ("fd", "kd", "prdc", "nearest", "is", "fd_inf")

DATASETS: dict[str, Facts] = {
    "moons": Facts("vector", (2,), "w2"),
    "eight_gaussians": Facts("vector", (2,), "w2"),
    "checkerboard": Facts("vector", (2,), "w2"),
    "mixture": Facts("vector", (2,), "ode_rmse", exact=True),
    "mixture64": Facts("vector", (64,), "ode_rmse", exact=True),
    "digits": Facts("image", (1, 8, 8), "fd_digits", extractors=("digits",)),
}
