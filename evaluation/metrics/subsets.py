"""Checks and random subsets that the metrics on features share."""

from __future__ import annotations

import numpy as np


def checked(features: np.ndarray, name: str = "features") -> np.ndarray:
    """Features [n, d] in float64; ValueError for another shape, none, or values that are not finite."""
    f = np.asarray(features, dtype=np.float64)
    if f.ndim != 2 or not f.size:
        raise ValueError(f"{name} must be [n, d] with n, d > 0, not {f.shape}")
    if not np.isfinite(f).all():
        raise ValueError(f"{name} hold values that are not finite")
    return f


def checked_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two checked sets of features of the same dimension, else ValueError."""
    a, b = checked(a), checked(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared")
    return a, b


def draw(rng: np.random.Generator, features: np.ndarray, size: int) -> np.ndarray:
    """`size` of the features [n, d], without replacement."""
    return features[rng.choice(len(features), size, replace=False)]
