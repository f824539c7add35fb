"""The 8×8 handwritten digits that ship with scikit-learn: 1,797 grey images, no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from fewstep.data.dataset import Dataset
from fewstep.data.images import of_images


def load(*, flip: bool = False, augment: float = 0.0) -> Dataset:
    """Pixels 0..16 scaled to [-1, 1]; the whole set is both training set and reference.

    The file is read as it lies in the package: `sklearn.datasets.load_digits` imports for a second, in every job.
    """
    file = Path(find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"
    pixels = np.loadtxt(file, delimiter=",", dtype=np.float32)[:, :-1]  # the last column is the label
    x = torch.from_numpy(pixels).reshape(-1, 1, 8, 8) / 8 - 1
    return of_images("digits", x, flip=flip, augment=augment)
