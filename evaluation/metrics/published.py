"""Reference statistics that others published: the .npz files of EDM, pytorch-fid and their relatives."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from evaluation.metrics.frechet import Gaussian
from fewstep.errors import UserError


def read_statistics(path: str | Path, dim: int | None = None) -> Gaussian:
    """Read `mu` [d] and `sigma` [d, d] from an .npz file, without pickle; the file doesn't say of how many images.

    dim: how many features are expected. Raises UserError, in one line, when the file is no such thing: other keys or
    shapes, values that are not finite, a covariance that is not symmetric.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[key], dtype=np.float64) for key in ("mu", "sigma"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; download these reference statistics or drop them") from None
    except (OSError, KeyError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile):
        raise UserError(f"{path} is not an .npz file with numeric arrays mu and sigma") from None
    d = len(mean) if mean.ndim else 0
    if mean.ndim != 1 or covariance.shape != (d, d) or d == 0:
        raise UserError(f"{path}: mu {mean.shape} and sigma {covariance.shape} are not [d] and [d, d]")
    if dim is not None and d != dim:
        raise UserError(f"{path} is of {d} features, not {dim}; it belongs to another extractor")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UserError(f"{path} holds values that are not finite")
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-8 * np.abs(covariance).max()):
        raise UserError(f"{path}: sigma is not symmetric, so it is no covariance")
    return Gaussian(mean, (covariance + covariance.T) / 2)
