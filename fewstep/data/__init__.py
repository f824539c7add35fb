"""Datasets by name. Built-in ones are made on the spot; real ones are read from a file that was prepared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.errors import UserError
from fewstep.facts import DATASETS

if TYPE_CHECKING:  # a workflow asks for `fewstep.data.sources` and needs no torch
    from fewstep.data.dataset import Dataset


def load(
    name: str,
    prepared: Path | None = None,
    *,
    flip: bool = False,
    augment: float = 0.0,
    source: Any = None,
) -> Dataset:
    """The dataset called `name`, one of `fewstep.facts.DATASETS`; only its own module is imported.

    prepared  what the `data` step wrote of a real dataset; built-in ones need none
    flip      training batches hold every image mirrored as often as not
    augment   the probability of each of `fewstep.data.augment`'s changes, which the network is told of
    source    the identity of the files that it must have been prepared from; None: any

    Raises UserError for a real dataset without its file, and for changes of images asked of vectors.
    """
    if (flip or augment) and DATASETS[name].family != "image":
        raise UserError(f"config: datasets.{name}: flip and augment change images, and it holds vectors")
    match name:
        case "moons" | "eight_gaussians" | "checkerboard":
            from fewstep.data import toy2d

            return getattr(toy2d, name)()
        case "mixture" | "mixture64":
            from fewstep.data import mixture

            return mixture.two_dimensional() if name == "mixture" else mixture.sixty_four_dimensional()
        case "digits":
            from fewstep.data import digits

            return digits.load(flip=flip, augment=augment)
    if not DATASETS[name].real:
        raise KeyError(name)
    if prepared is None:
        raise UserError(f"{name} is read from files; prepare it first: python -m fewstep data --dataset {name}")
    from fewstep.data import images

    return images.load(name, prepared, flip=flip, augment=augment, source=source)
