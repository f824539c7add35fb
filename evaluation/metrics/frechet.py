"""The Fréchet distance between two sets of features: FID, FD_DINOv2 and fd_digits differ only in the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, eigh, eigvalsh


@dataclass(frozen=True)
class Gaussian:
    """A mean [d] and a covariance [d, d]: what a distance needs. n: samples behind them, None where nobody tells."""

    mean: np.ndarray
    covariance: np.ndarray
    n: int | None = None


class Moments:
    """Mean and covariance of features that arrive in pieces, in float64 (Chan, Golub, LeVeque 1983, pairwise update).

    Centred sums are kept rather than sums of squares, so that a large common mean costs no digits.
    """

    def __init__(self, features: np.ndarray | None = None):
        self.n = 0
        self._mean = self._scatter = None  # [d]; [d, d] = sum of (f - mean)(f - mean)^T
        if features is not None:
            self.update(features)

    def update(self, features: np.ndarray) -> Moments:
        """Add features [n, d]; returns self. ValueError for another shape or for values that are not finite."""
        f = np.asarray(features, dtype=np.float64)
        if f.ndim != 2:
            raise ValueError(f"features must be [n, d], not {f.shape}")
        if not np.isfinite(f).all():
            raise ValueError("features hold values that are not finite")
        if len(f):
            mean = f.mean(0)
            centred = f - mean
            self._add(len(f), mean, centred.T @ centred)  # one array twice: BLAS does half of the work
        return self

    def merge(self, other: Moments) -> Moments:
        """Add all that `other` has seen; returns self, leaves `other` as it is."""
        if other.n:
            self._add(other.n, other._mean, other._scatter.copy())
        return self

    def _add(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        """`scatter` becomes this object's own."""
        if not self.n:
            self.n, self._mean, self._scatter = n, mean.copy(), scatter
            return
        if len(mean) != len(self._mean):
            raise ValueError(f"features have {len(mean)} dimensions, those before them {len(self._mean)}")
        total, gap = self.n + n, mean - self._mean
        scatter += self._scatter
        scatter += np.outer(gap * (self.n * n / total), gap)
        self._scatter, self._mean, self.n = scatter, self._mean + gap * (n / total), total

    def without(self, part: Moments) -> Moments:
        """The moments of all that this has seen but for `part`, which must be among it: a jackknife leaves one out.

        Raises ValueError when nothing would be left or the dimensions differ.
        """
        rest = Moments()
        if not 0 < part.n < self.n:
            raise ValueError(f"cannot take {part.n} features out of {self.n}")
        if len(part._mean) != len(self._mean):
            raise ValueError(f"features have {len(part._mean)} dimensions, not {len(self._mean)}")
        rest.n = self.n - part.n
        rest._mean = self._mean + (self._mean - part._mean) * (part.n / rest.n)
        gap = part._mean - rest._mean
        rest._scatter = self._scatter - part._scatter
        rest._scatter -= np.outer(gap * (rest.n * part.n / self.n), gap)
        return rest

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


class Target:
    """One side of many Fréchet distances: the root of its covariance is taken once."""

    def __init__(self, moments: Gaussian | Moments):
        covariance = moments.covariance
        self.mean, self.trace, self.root = moments.mean, np.trace(covariance), root_of(covariance)

    def distance(self, other: Gaussian | Moments) -> float:
        """`frechet_distance` to `other`."""
        covariance = other.covariance
        if len(covariance) != len(self.root):
            raise ValueError(f"features of {len(self.root)} and of {len(covariance)} dimensions cannot be compared")
        product = self.root.T @ covariance @ self.root
        product += product.T.copy()
        spectrum = eigvalsh(product, overwrite_a=True, check_finite=False) / 2
        cross = np.sqrt(spectrum.clip(min=0)).sum()
        distance = np.square(other.mean - self.mean).sum() + np.trace(covariance) + self.trace - 2 * cross
        return float(max(distance, 0.0))


def root_of(covariance: np.ndarray) -> np.ndarray:
    """R [d, d] with R R^T = covariance: a Cholesky factor, or one from eigenvectors where the rank is not full."""
    try:
        return cholesky(covariance, lower=True)
    except LinAlgError:
        values, vectors = eigh(covariance)
        return vectors * np.sqrt(values.clip(min=0))


def frechet_distance(a: Gaussian | Moments, b: Gaussian | Moments) -> float:
    """Squared Fréchet distance of two Gaussians, |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2).

    Dowson & Landau 1982; Heusel et al. 2017 (FID). The unit is that of a squared feature. Any root S_a = R R^T gives
    R^T S_b R the same spectrum, which is real whatever the rank; eigenvalues that rounding makes negative are clipped.
    scipy.linalg.sqrtm of S_a S_b, which other codes use, goes complex there and differs between releases.
    Raises ValueError for different dimensions or fewer than two features in either.
    """
    return Target(a).distance(b)


def warning_of(n: int, dim: int) -> str:
    """What to say beside a distance whose covariance is of n samples in dim dimensions; "" when nothing."""
    return f"singular: {n:,} samples for {dim:,} dimensions" if n < dim + 1 else ""
