"""Improved precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from evaluation.metrics.subsets import checked, draw

NEIGHBOURS, LIMIT = 5, 10_000
# A point that is a ball's k-th neighbour itself lies on its surface. float32 features put it on either side at random;
# this much less, relative, and it is outside for sure.
SURFACE = 1e-5
BLOCK = 1000  # rows of a distance matrix that are in memory at once: 80 MB beside 10,000 points


class Prdc(NamedTuple):
    """Shares in [0, 1], but for density, which can exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


class Manifold:
    """Points with a ball around each that reaches to its k-th neighbour, the point itself not counted.

    Of more than `limit` features a subset, seeded, is taken. Raises ValueError for k or fewer features.
    """

    def __init__(self, features: np.ndarray, k: int = NEIGHBOURS, limit: int = LIMIT, seed: int = 0):
        f = checked(features)
        if len(f) <= k:
            raise ValueError(f"{k} neighbours need more than {len(f)} features")
        thinned = len(f) > limit
        self.k, self.points = k, draw(np.random.default_rng(seed), f, limit) if thinned else f.astype(np.float64)
        self.radii = np.concatenate([self._radii(start) for start in range(0, len(self.points), BLOCK)])

    def _radii(self, start: int) -> np.ndarray:
        rows = self.points[start : start + BLOCK]
        distances = euclidean_distances(rows, self.points)
        distances[np.arange(len(rows)), start + np.arange(len(rows))] = 0  # rounding leaves 1e-7 on the diagonal
        return np.partition(distances, self.k, axis=1)[:, self.k] * (1 - SURFACE)


def prdc(real: Manifold, generated: Manifold) -> Prdc:
    """Precision: share of generated points in a real ball; recall: the reverse; density: real balls around a generated
    point, mean, over k; coverage: share of real balls that hold a generated point.

    A point on a ball's surface is outside, as in the authors' code (prdc); torch-fidelity counts it as inside, which
    differs only where points coincide. Raises ValueError for different dimensions or k.
    """
    if real.k != generated.k or real.points.shape[1] != generated.points.shape[1]:
        raise ValueError("the two manifolds must have the same k and dimension")
    in_real, recalled, covered = np.zeros(len(generated.points), int), [], []
    for start, distances in _blocks(real.points, generated.points):
        inside = distances < real.radii[start : start + len(distances), None]
        in_real += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distances < generated.radii).any(1))
    recall, coverage = (float(np.concatenate(parts).mean()) for parts in (recalled, covered))
    return Prdc(float((in_real > 0).mean()), recall, float(in_real.mean() / real.k), coverage)


def _blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(a), BLOCK):
        yield start, euclidean_distances(a[start : start + BLOCK], b)
