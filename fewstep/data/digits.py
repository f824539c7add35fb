"""The 8×8 handwritten digits that ship with scikit-learn: 1,797 grey images, no download."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from fewstep.data.dataset import Dataset, from_set


def load() -> Dataset:
    """Pixels 0..16 scaled to [-1, 1]; the whole set is both training set and reference."""
    x = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1
    return Dataset("digits", x, from_set(x))
