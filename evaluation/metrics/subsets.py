"""Checks and random subsets that the metrics on features share."""

from __future__ import annotations

import numpy as np

CHUNK = 4096  # rows that are looked at, or converted, at once: 50,000 features of Inception are 0.8 GB in float64


def checked(features: np.ndarray, name: str = "features") -> np.ndarray:
    """Features [n, d] in the precision that they come in; ValueError for another shape, none, or not finite ones."""
    f = np.asarray(features)
    if f.ndim != 2 or not f.size:
        raise ValueError(f"{name} must be [n, d] with n, d > 0, not {f.shape}")
    if not all(np.isfinite(f[i : i + CHUNK]).all() for i in range(0, len(f), CHUNK)):
        raise ValueError(f"{name} hold values that are not finite")
    return f


def checked_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two checked sets of features of the same dimension, else ValueError."""
    a, b = checked(a), checked(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared")
    return a, b


def draw(rng: np.random.Generator, features: np.ndarray, size: int) -> np.ndarray:
    """`size` of the features [n, d], without replacement, in float64."""
    return features[rng.choice(len(features), size, replace=False)].astype(np.float64)
