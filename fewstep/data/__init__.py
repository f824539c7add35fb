"""Datasets by name. Loading one is cheap; nothing is downloaded for the built-in ones."""

from __future__ import annotations

from fewstep.data.dataset import Dataset


def load(name: str) -> Dataset:
    """The dataset called `name`, one of `fewstep.facts.DATASETS`; only its own module is imported."""
    match name:
        case "moons" | "eight_gaussians" | "checkerboard":
            from fewstep.data import toy2d

            return getattr(toy2d, name)()
        case "mixture" | "mixture64":
            from fewstep.data import mixture

            return mixture.two_dimensional() if name == "mixture" else mixture.sixty_four_dimensional()
        case "digits":
            from fewstep.data import digits

            return digits.load()
    raise KeyError(name)
