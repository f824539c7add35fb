"""The Inception Score (Salimans et al. 2016)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.special import log_softmax

from evaluation.metrics.subsets import checked

SPLITS = 10


def inception_score(logits: np.ndarray, splits: int = SPLITS, seed: int | None = 0) -> tuple[float, float]:
    """exp of the mean KL from each image's class distribution to that of its split; mean and sd over the splits.

    logits [n, classes]; seed: of a shuffle before the split, so that the order of classes doesn't matter; None keeps
    the order. Raises ValueError for fewer logits than splits.
    """
    x = checked(logits, "logits")
    if len(x) < splits:
        raise ValueError(f"an Inception Score of {splits} splits needs at least {splits} images, not {len(x)}")
    if seed is not None:
        x = np.random.default_rng(seed).permutation(x)
    edges = np.arange(splits + 1) * len(x) // splits
    scores = [_score(log_softmax(x[start:stop].astype(np.float64), axis=1)) for start, stop in pairwise(edges)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: np.ndarray) -> float:
    p = np.exp(log_p)
    log_q = np.log(p.mean(0), where=p.any(0), out=np.zeros(p.shape[1]))  # a class that no image has adds nothing
    return float(np.exp((p * np.where(p > 0, log_p - log_q, 0)).sum(1).mean()))
