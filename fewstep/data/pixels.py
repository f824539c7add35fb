"""Images that lie on disk as bytes and become numbers where they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fewstep.images import from_uint8

CHUNK = 4096  # images at once where all are gone through


class Pixels:
    """uint8 images [N, C, H, W], e.g. memory-mapped, that look like a float32 tensor in [-1, 1] when indexed.

    They are never all in memory: ImageNet at 64×64 is 15.7 GB as bytes, and four times that as floats.
    """

    def __init__(self, array: np.ndarray):
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        return torch.Size(self.array.shape)

    def __getitem__(self, index: int | slice | Tensor | Sequence[int]) -> Tensor:
        """The images at an index, a slice or indices, float32."""
        if not isinstance(index, int | slice):
            index = np.asarray(index)
        return from_uint8(torch.from_numpy(np.array(self.array[index])))

    def split(self, size: int) -> Iterator[Tensor]:
        """`size` images after the other, the last ones fewer."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def mean(self, dim: int = 0) -> Tensor:
        """The mean image [C, H, W], computed once. Raises ValueError for another dimension than that of the images."""
        if dim != 0:
            raise ValueError(f"only the mean over images (dim 0) is there, not over dimension {dim}")
        return self._mean.clone()

    @cached_property
    def _mean(self) -> Tensor:
        sums = (self.array[i : i + CHUNK].sum(0, dtype=np.int64) for i in range(0, len(self), CHUNK))
        return torch.from_numpy(sum(sums) / len(self) / 127.5 - 1).float()
