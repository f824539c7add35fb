"""Every random number, by name: the same axes give the same numbers on every machine.

A sample's latent depends on its index alone, so sample i is the same image whatever the batch size, the order,
the number of devices or the method (the idea of one generator per sample is EDM's, arXiv 2206.00364).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def seed_of(*axes: str | int) -> int:
    """A 63-bit seed from named axes, e.g. `seed_of("train", "digits", "rf", 0)`."""
    text = "/".join(str(axis) for axis in axes)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*axes: str | int) -> torch.Generator:
    """A CPU generator seeded by `seed_of(*axes)`."""
    return torch.Generator().manual_seed(seed_of(*axes))


@contextlib.contextmanager
def first_weights(*axes: str | int) -> Iterator[None]:
    """Inside, PyTorch initialises networks from the seed of these axes; the global RNG stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*axes))
        yield


def latents(dataset: str, seed: int, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Unit Gaussian latents [len(indices), *shape], float32 on the CPU, one generator an index."""
    out = torch.empty(len(indices), *shape)
    for row, index in enumerate(indices):
        torch.randn(tuple(shape), generator=generator("latents", dataset, seed, index), out=out[row])
    return out


def labels(dataset: str, seed: int, indices: Sequence[int], classes: int) -> Tensor:
    """The class of each sample, one-hot [len(indices), classes], all equally likely; one generator an index."""
    drawn = [torch.randint(classes, (), generator=generator("labels", dataset, seed, index)) for index in indices]
    return torch.nn.functional.one_hot(torch.stack(drawn), classes).float()


class SampleRng:
    """Extra randomness for methods that draw at sampling (codes, churn), one stream per sample and name."""

    def __init__(self, dataset: str, seed: int, indices: Sequence[int]):
        self.dataset, self.seed, self.indices = dataset, seed, list(indices)

    def _stack(self, draw, name: str, shape: Sequence[int]) -> Tensor:
        streams = (generator(name, self.dataset, self.seed, index) for index in self.indices)
        return torch.stack([draw(tuple(shape), generator=stream) for stream in streams])

    def randn(self, name: str, *shape: int) -> Tensor:
        """Normal numbers [B, *shape]; `name` says what for, so two uses never share a stream."""
        return self._stack(torch.randn, name, shape)

    def rand(self, name: str, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1) [B, *shape]."""
        return self._stack(torch.rand, name, shape)
