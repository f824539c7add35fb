"""Datasets by name. Loading one is cheap or cached; nothing is downloaded for the built-in ones."""

from __future__ import annotations

from collections.abc import Callable

from fewstep.data import digits, mixture, toy2d
from fewstep.data.dataset import Dataset

LOADERS: dict[str, Callable[[], Dataset]] = {
    "moons": toy2d.moons,
    "eight_gaussians": toy2d.eight_gaussians,
    "checkerboard": toy2d.checkerboard,
    "mixture": mixture.two_dimensional,
    "mixture64": mixture.sixty_four_dimensional,
    "digits": digits.load,
}


def load(name: str) -> Dataset:
    """The dataset called `name` (a key of LOADERS; config and plan have checked it)."""
    return LOADERS[name]()
