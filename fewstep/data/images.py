"""Image datasets: drawn with replacement, mirrored and augmented where a study asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.data.dataset import Dataset
from fewstep.data.pixels import Pixels
from fewstep.prepared import open_prepared


def load(name: str, prepared: Path, *, flip: bool = False, augment: float = 0.0, source: Any = None) -> Dataset:
    """A real dataset as the `data` step prepared it; its pixels stay on disk. Raises CheckpointError, in one line."""
    stored = open_prepared(prepared, name, source=source)
    labels = None if stored.labels is None else torch.from_numpy(stored.labels)
    return of_images(name, Pixels(stored.pixels), labels, stored.header["std"], flip=flip, augment=augment)


def of_images(
    name: str,
    x: Tensor | Pixels,
    labels: Tensor | None = None,
    std: float | None = None,
    *,
    flip: bool = False,
    augment: float = 0.0,
) -> Dataset:
    """A dataset of images [N, C, H, W] whose training batches are drawn from all of them, with replacement."""

    def pick(n: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        which = torch.randint(len(x), (n,), generator=rng)
        images = x[which]
        if flip:  # each with probability 1/2, as a set that holds every mirror image gives it
            mirrored = torch.rand(n, generator=rng) < 0.5
            images[mirrored] = images[mirrored].flip(3)
        return images, which

    def draw(n: int, rng: torch.Generator) -> Tensor:
        return pick(n, rng)[0]

    return Dataset(name, x, draw, augment=augment, labels=labels, pick=pick, known_std=std)
