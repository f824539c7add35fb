"""What a dataset is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fewstep.facts import DATASETS, Facts
from fewstep.seeds import generator

if TYPE_CHECKING:
    from fewstep.data.pixels import Pixels


@dataclass(frozen=True)
class Dataset:
    """reference  the set that samples are judged against, [N, *shape] float32 (images in [-1, 1])
    draw       (n, generator) -> [n, *shape], a training batch
    exact      path -> predictor with the closed-form field, where there is one
    augment    probability of the augmentations that `examples` applies, and a network is told of
    labels     class of each sample of the reference, int64 [N], where they are known
    pick       (n, generator) -> what `draw` gives, and which samples they are [n]; needed for labels and augmentation
    known_std  `std`, where the reference is too large to compute it again
    """

    name: str
    reference: Tensor | Pixels
    draw: Callable[[int, torch.Generator], Tensor]
    exact: Callable | None = None
    augment: float = 0.0
    labels: Tensor | None = None
    pick: Callable[[int, torch.Generator], tuple[Tensor, Tensor]] | None = None
    known_std: float | None = None

    def examples(
        self, n: int, rng: torch.Generator, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """n samples for training [n, *shape], and what the network is told of each; on `device`, augmented there.

        "label": its class, one-hot [n, classes], where the dataset has classes; "augment": how it was changed
        [n, AUGMENT_DIM], where it may have been. Without augmentation the samples are those of `draw`, bit for bit.
        """
        classes = self.facts.classes
        if not classes and not self.augment:
            return self.draw(n, rng).to(device), {}
        x, which = self.pick(n, rng)
        x, told = x.to(device), {}
        if classes:
            told["label"] = torch.nn.functional.one_hot(self.labels[which], classes).float().to(device)
        if self.augment:
            from fewstep.data.augment import augment

            x, told["augment"] = augment(x, self.augment, rng)
        return x, told

    def subset(self, most: int) -> Tensor:
        """The reference where it has no more than `most` samples; else so many of it, the same ones each time."""
        if (n := len(self.reference)) <= most:
            return self.reference[:]
        chosen = torch.randperm(n, generator=generator("subset", self.name))[:most]
        return self.reference[chosen.sort().values]

    @property
    def facts(self) -> Facts:
        """Family, shape and primary metric."""
        return DATASETS[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.facts.shape

    @property
    def std(self) -> float:
        """Root mean square deviation from the mean, over all elements."""
        if self.known_std is not None:
            return self.known_std
        return float((self.reference - self.reference.mean(0)).square().mean().sqrt())
