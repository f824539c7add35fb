"""The Fréchet distance extrapolated to infinitely many samples (Chong & Forsyth 2020, FID_inf)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evaluation.metrics.frechet import Gaussian, Moments, Target
from evaluation.metrics.subsets import CHUNK, checked

POINTS, LEAST, FEWEST = 15, 5000, 20


class Extrapolated(NamedTuple):
    """value: the intercept a of the fit a + b / n, which noise can make negative; slope: b; sizes, distances: the
    points of the fit."""

    value: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def fd_infinity(
    features: np.ndarray, reference: Target | Gaussian | Moments, points: int = POINTS, seed: int = 0
) -> Extrapolated:
    """Distances of random subsets of the features [n, d] to the reference, fitted by a + b / n.

    The sizes are `points` even steps from min(5000, n / 10) to n, each subset drawn anew without replacement, as
    dgm-eval does; the reference's own bias stays. Raises ValueError for fewer than FEWEST features.
    """
    f = checked(features)
    if len(f) < FEWEST:
        raise ValueError(f"an extrapolation needs at least {FEWEST} features, not {len(f)}")
    side = reference if isinstance(reference, Target) else Target(reference)
    rng = np.random.default_rng(seed)
    sizes = np.linspace(min(LEAST, len(f) // 10), len(f), points).astype(int)
    distances = [side.distance(_moments(f, rng.choice(len(f), size, replace=False))) for size in sizes]
    slope, value = np.polyfit(1 / sizes, distances, 1)
    return Extrapolated(float(value), float(slope), tuple(map(int, sizes)), tuple(distances))


def _moments(features: np.ndarray, rows: np.ndarray) -> Moments:
    moments = Moments()
    for i in range(0, len(rows), CHUNK):
        moments.update(features[rows[i : i + CHUNK]])
    return moments
