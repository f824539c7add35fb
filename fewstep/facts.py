"""What the plan needs to know of a dataset before anything heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """family: "vector" or "image"; primary: the metric that ranks; exact: the field is known in closed form.

    extractors: the feature networks that judge it unless a study names others.
    classes: of a class-conditional dataset, whose models are told each sample's class; 0 for the others.
    count: images of a real one, whose files a study's `source` names; 0 for what needs no files.
    """

    family: str
    shape: tuple[int, ...]
    primary: str
    exact: bool = False
    extractors: tuple[str, ...] = ()
    classes: int = 0
    count: int = 0

    @property
    def real(self) -> bool:
        """Whether it is read from files."""
        return self.count > 0


# Names of the feature networks in evaluation/extractors, and of what can be computed on their features: Fréchet
# distance, kernel distance, precision with recall, density and coverage, distance to the nearest training image,
# Inception Score, Fréchet distance at infinity.
EXTRACTORS = ("digits", "lite0", "inception", "inception_pytorch", "dinov2")
# The same network in another library, whose value stands beside the first one's: choosing one brings the other.
SECOND_BACKEND = {"inception": "inception_pytorch"}
AUGMENT_DIM = 9  # numbers that tell a network how an image was augmented
METRICS = ("fd", "kd", "prdc", "nearest", "is", "fd_inf")


def _images(side: int, count: int, classes: int = 0, primary: str = "fid") -> Facts:
    extractors = ("inception", "dinov2") if primary == "fid" else ("lite0",)
    return Facts("image", (3, side, side), primary, extractors=extractors, classes=classes, count=count)


DATASETS: dict[str, Facts] = {
    "moons": Facts("vector", (2,), "w2"),
    "eight_gaussians": Facts("vector", (2,), "w2"),
    "checkerboard": Facts("vector", (2,), "w2"),
    "mixture": Facts("vector", (2,), "ode_rmse", exact=True),
    "mixture64": Facts("vector", (64,), "ode_rmse", exact=True),
    "digits": Facts("image", (1, 8, 8), "fd_digits", extractors=("digits",)),
    "cifar10": _images(32, 50_000),
    "cifar10_cond": _images(32, 50_000, classes=10),
    # CIFAR-10 as JPEG of quality 75, for trials: no number from it stands beside one of CIFAR-10.
    "cifar10_jpeg75": _images(32, 50_000, primary="fd_lite0"),
    "cifar10_jpeg75_cond": _images(32, 50_000, classes=10, primary="fd_lite0"),
    "ffhq64": _images(64, 70_000),
    "afhqv2_64": _images(64, 15_803),
    "imagenet64": _images(64, 1_281_167, classes=1000),
}
