"""The Fréchet distance between two sets of features: FID, FD_DINOv2 and fd_digits differ only in the features."""

import numpy as np
from scipy.linalg import eigh


class Moments:
    """Mean and covariance of features that arrive in pieces, in float64 (Chan, Golub, LeVeque 1983, pairwise update).

    Centred sums are kept rather than sums of squares, so that a large common mean costs no digits.
    """

    def __init__(self, features: np.ndarray | None = None):
        self.n = 0
        self._mean = self._scatter = None  # [d]; [d, d] = sum of (f - mean)(f - mean)^T
        if features is not None:
            self.update(features)

    def update(self, features: np.ndarray) -> "Moments":
        """Add features [n, d]; returns self. ValueError for another shape or for values that are not finite."""
        f = np.asarray(features, dtype=np.float64)
        if f.ndim != 2:
            raise ValueError(f"features must be [n, d], not {f.shape}")
        if not np.isfinite(f).all():
            raise ValueError("features hold values that are not finite")
        if len(f):
            mean = f.mean(0)
            self._add(len(f), mean, (f - mean).T @ (f - mean))
        return self

    def merge(self, other: "Moments") -> "Moments":
        """Add all that `other` has seen; returns self, leaves `other` as it is."""
        if other.n:
            self._add(other.n, other._mean, other._scatter)
        return self

    def _add(self, n, mean, scatter):
        if not self.n:
            self.n, self._mean, self._scatter = n, mean.copy(), scatter.copy()
            return
        if len(mean) != len(self._mean):
            raise ValueError(f"features have {len(mean)} dimensions, those before them {len(self._mean)}")
        total, gap = self.n + n, mean - self._mean
        self._scatter = self._scatter + scatter + np.outer(gap, gap) * (self.n * n / total)
        self._mean, self.n = self._mean + gap * (n / total), total

    @property
    def mean(self) -> np.ndarray:
        """[d]. ValueError before the first feature."""
        if not self.n:
            raise ValueError("no features yet")
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """[d, d], unbiased (divided by n - 1, as all FID codes do). ValueError with fewer than two features."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 features, not {self.n}")
        return self._scatter / (self.n - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Fréchet distance of two Gaussians, |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2).

    Dowson & Landau 1982; Heusel et al. 2017 (FID). The unit is that of a squared feature. The root's trace comes from
    two symmetric eigenproblems, whose eigenvalues are real whatever the rank; those that rounding makes negative are
    clipped. scipy.linalg.sqrtm of S_a S_b, which other codes use, goes complex there and differs between releases.
    Raises ValueError for different dimensions or fewer than two features in either.
    """
    ca, cb = a.covariance, b.covariance
    if ca.shape != cb.shape:
        raise ValueError(f"features of {len(ca)} and of {len(cb)} dimensions cannot be compared")
    values, vectors = eigh(ca)
    root = vectors * np.sqrt(values.clip(min=0))  # S_a = root root^T; a rotation of S_a^1/2 has the same spectrum below
    product = root.T @ cb @ root
    cross = np.sqrt(eigh((product + product.T) / 2, eigvals_only=True).clip(min=0)).sum()
    distance = np.square(a.mean - b.mean).sum() + np.trace(ca) + np.trace(cb) - 2 * cross
    return float(max(distance, 0.0))
