"""Wasserstein-2 distance between two sets of points, exact and sliced."""

import os
import warnings

import numpy as np

# POT imports every array library it finds, and PyTorch costs seconds; its switches count only before the import.
for _backend in ("PYTORCH", "JAX", "TENSORFLOW", "CUPY"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")

import ot  # noqa: E402

MAX_ITERATIONS = 100_000_000  # of the network simplex; 5,000 points against 5,000 take about a million


def w2(x: np.ndarray, y: np.ndarray) -> float:
    """Exact W2 = sqrt(min over couplings of E |x - y|^2) between x [n, d] and y [m, d], each set weighted uniformly.

    Computed by POT's network simplex (Bonneel et al. 2011) on the n × m squared distances (8 n m bytes); the unit is
    that of the data. Raises ValueError for other shapes, empty sets or values that are not finite, and RuntimeError if
    the solver stops before the optimum.
    """
    x, y = _points(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # how POT says that it did not converge
        try:
            cost = ot.emd2([], [], ot.dist(x, y), numItermax=MAX_ITERATIONS)
        except UserWarning as warning:
            raise RuntimeError(f"optimal transport did not converge: {warning}") from None
    return float(np.sqrt(max(cost, 0.0)))


def sliced_w2(x: np.ndarray, y: np.ndarray, n_projections: int = 256, seed: int = 0) -> float:
    """Sliced W2 = sqrt(mean over directions u of W2^2(x.u, y.u)) between x [n, d] and y [m, d] (Bonneel et al. 2015).

    The directions are uniform on the sphere, drawn from `seed` alone. Same unit and ValueErrors as `w2`.
    """
    x, y = _points(x, y)
    return float(ot.sliced_wasserstein_distance(x, y, n_projections=n_projections, seed=seed))


def _points(x, y):
    x, y = (np.asarray(z, dtype=np.float64) for z in (x, y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise ValueError(f"two non-empty sets [n, d] and [m, d] are needed, not {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("points hold values that are not finite")
    return x, y
