"""Kernel distance between two sets of features: KID on Inception's, KD on others'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from evaluation.metrics.subsets import checked, checked_pair, draw

SUBSETS, SIZE = 100, 1000
BLOCK = 2048  # rows of a kernel matrix that are in memory at once


class KernelDistance(NamedTuple):
    """value: mean over the subsets; sd: their standard deviation, which is no confidence interval, None with one;
    subsets, size: how many, of how many features; size is 0 when all features went in at once."""

    value: float
    sd: float | None
    subsets: int
    size: int


class Kernel:
    """One side of many kernel distances: what it has to do with itself is computed once.

    features [m, d]. Raises ValueError for fewer than two, or for values that are not finite.
    """

    def __init__(self, features: np.ndarray):
        checked(features)
        if len(features) < 2:
            raise ValueError("a kernel distance needs at least 2 features in each set")
        self.features = features  # as they come: 50,000 of Inception's take 0.8 GB in float64
        self._within: float | None = None

    def distance(self, other: np.ndarray, subsets: int = SUBSETS, size: int = SIZE, seed: int = 0) -> KernelDistance:
        """`kernel_distance` from `other` [n, d]."""
        checked_pair(other, self.features)
        if len(other) < 2:
            raise ValueError("a kernel distance needs at least 2 features in each set")
        if min(len(other), len(self.features)) < size:
            if self._within is None:
                self._within = within(self.features)
            value = within(other) + self._within - 2 * between(other, self.features)
            return KernelDistance(float(value), None, 1, 0)
        rng = np.random.default_rng(seed)
        values = [mmd2(draw(rng, other, size), draw(rng, self.features, size)) for _ in range(subsets)]
        return KernelDistance(float(np.mean(values)), float(np.std(values)) if subsets > 1 else None, subsets, size)


def kernel_distance(
    a: np.ndarray, b: np.ndarray, subsets: int = SUBSETS, size: int = SIZE, seed: int = 0
) -> KernelDistance:
    """Unbiased squared MMD of features a [n, d] and b [m, d], mean over random subsets (Bińkowski et al. 2018, KID).

    Where either set is smaller than `size`, the unbiased estimate of all features is taken instead, once. It can be
    slightly negative. Raises ValueError for different dimensions, fewer than two features or values not finite.
    """
    return Kernel(b).distance(a, subsets, size, seed)


def mmd2(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of a [n, d] and b [m, d] with the kernel (x·y / d + 1)³."""
    return float(within(a) + within(b) - 2 * between(a, b))


def within(a: np.ndarray) -> float:
    """Mean of the kernel over pairs of different points of a [n, d]."""
    n, d = a.shape
    alike = sum(((np.square(rows).sum(1) / d + 1) ** 3).sum() for rows in _blocks(a))
    return (_sum(a, a) - alike) / (n * (n - 1))


def between(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of the kernel over pairs of a [n, d] and b [m, d]."""
    return _sum(a, b) / (len(a) * len(b))


def _sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the kernel over all pairs."""
    d = a.shape[1]
    return sum(((x @ y.T / d + 1) ** 3).sum() for x in _blocks(a) for y in _blocks(b))


def _blocks(a: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of a, some at a time, in float64."""
    for i in range(0, len(a), BLOCK):
        yield np.asarray(a[i : i + BLOCK], dtype=np.float64)
