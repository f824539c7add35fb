"""Whether samples repeat training images: how near the nearest one is, against how near those are to each other."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from evaluation.metrics.subsets import checked, checked_pair

LIMIT = 10_000  # points that are looked up; each is compared with the whole reference set
ROUNDING = 1e-6  # of a distance, relative to the features' norm: less is none


class Reference:
    """Reference features [m, d] in which nearest neighbours are looked up, exactly.

    `spacing` is the mean distance of a reference point to its nearest other one; 0 where each has a copy. Raises
    ValueError for fewer than two features, or for values that are not finite.
    """

    def __init__(self, features: np.ndarray, limit: int = LIMIT, seed: int = 0):
        f = checked(features)
        if len(f) < 2:
            raise ValueError("a nearest neighbour needs at least 2 features in the reference set")
        self.features, self.limit, self.seed = f, limit, seed
        self._index = NearestNeighbors(algorithm="brute").fit(f)
        itself_and_next, _ = self._index.kneighbors(self._thinned(f), 2)
        spacing = float(itself_and_next[:, 1].mean(dtype=np.float64))
        self.spacing = spacing if spacing > ROUNDING * np.sqrt(np.vdot(f, f) / len(f)) else 0.0

    def nearest(self, generated: np.ndarray) -> float:
        """Mean distance of generated features [n, d] to their nearest reference point, over `spacing`.

        0: copies of the reference set; 1: as far from it as its own points are from each other, like fresh draws of a
        continuous distribution. Above `limit` features a subset, seeded, is taken. Raises ValueError for another
        dimension, or where there is no spacing.
        """
        checked_pair(generated, self.features)
        if not self.spacing:
            raise ValueError("each reference point has a copy among the others: no distance to compare with")
        distances, _ = self._index.kneighbors(self._thinned(generated), 1)
        return float(distances.mean(dtype=np.float64)) / self.spacing

    def _thinned(self, f: np.ndarray) -> np.ndarray:
        if len(f) <= self.limit:
            return f
        return f[np.random.default_rng(self.seed).choice(len(f), self.limit, replace=False)]
