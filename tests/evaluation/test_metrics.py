"""Metrics against closed forms and against slower independent ways to the same number."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment

from evaluation.metrics import METRICS
from evaluation.metrics.frechet import Moments, frechet_distance
from evaluation.metrics.wasserstein import sliced_w2, w2


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moments(mean, covariance):
    """Moments that hold exactly these values: 2 d points, mean ± the scaled columns of a root of the covariance."""
    d = len(mean)
    values, vectors = np.linalg.eigh(covariance)
    columns = (vectors * np.sqrt(values.clip(min=0) * (2 * d - 1) / 2)).T
    return Moments(np.concatenate([mean + columns, mean - columns]))


def by_sqrtm(a, b):
    """The textbook formula, as pytorch-fid computes it."""
    root = sqrtm(a.covariance @ b.covariance)
    gap = np.square(a.mean - b.mean).sum()
    return gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root).real


# Moments


def test_a_stream_equals_numpy(rng):
    f = rng.normal(size=(1000, 7)) * np.arange(1, 8) + 1e4  # a mean that sums of squares would drown in
    m = Moments()
    for part in np.split(f, [1, 1, 30, 31, 700]):
        m.update(part)
    assert m.n == 1000
    np.testing.assert_allclose(m.mean, f.mean(0), rtol=1e-13)
    np.testing.assert_allclose(m.covariance, np.cov(f.T), rtol=1e-9, atol=1e-9)


def test_merge_equals_all_at_once(rng):
    f = rng.normal(size=(300, 5))
    a, b = Moments(f[:20]), Moments(f[20:])
    before = b.covariance.copy()
    merged = Moments().merge(a).merge(b).merge(Moments())
    np.testing.assert_allclose(merged.mean, f.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(merged.covariance, np.cov(f.T), rtol=1e-12, atol=1e-14)
    assert a.n == 20 and np.array_equal(b.covariance, before)


def test_one_dimension_and_float32_input(rng):
    f = rng.normal(size=(50, 1)).astype(np.float32)
    assert Moments(f).covariance.dtype == np.float64
    np.testing.assert_allclose(Moments(f).covariance, [[f.astype(np.float64).var(ddof=1)]])


def test_moments_refuse_what_they_cannot_use():
    with pytest.raises(ValueError, match=r"must be \[n, d\]"):
        Moments(np.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        Moments(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="2 dimensions, those before them 3"):
        Moments(np.zeros((4, 3))).update(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="no features"):
        _ = Moments().mean


# Fréchet distance


def test_frechet_of_diagonal_gaussians(rng):
    d = 12
    mu, nu = rng.normal(size=(2, d))
    s, t = rng.uniform(0.1, 3, size=(2, d))  # standard deviations
    expected = np.square(mu - nu).sum() + np.square(s - t).sum()
    assert frechet_distance(moments(mu, np.diag(s**2)), moments(nu, np.diag(t**2))) == pytest.approx(
        expected, rel=1e-10
    )


def test_frechet_of_scaled_covariances(rng):
    f = rng.normal(size=(100, 6)) @ rng.normal(size=(6, 6))
    f -= f.mean(0)
    a, b = Moments(f), Moments(3 * f)  # S_b = 9 S_a commutes: tr (3 - 1)^2 S_a
    assert frechet_distance(a, b) == pytest.approx(4 * np.trace(a.covariance), rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-12)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * np.trace(a.covariance))


@pytest.mark.parametrize("d", [1, 2, 64])
def test_frechet_equals_sqrtm_at_full_rank(rng, d):
    a, b = (Moments(rng.normal(size=(500, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)) for _ in range(2))
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-8)


def test_frechet_of_rank_deficient_covariances(rng):
    # Fewer points than dimensions. The reference is the nuclear norm of X Y^T, which takes no root of a matrix.
    x, y = rng.normal(size=(20, 64)), rng.normal(size=(30, 64)) * 2 + 1
    a, b = Moments(x), Moments(y)
    cross = np.linalg.norm((x - x.mean(0)) @ (y - y.mean(0)).T, "nuc") / np.sqrt(19 * 29)
    expected = np.square(a.mean - b.mean).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)
    nudge = 1e-10 * np.eye(64)  # sqrtm needs help where a covariance is singular
    root = sqrtm((a.covariance + nudge) @ (b.covariance + nudge))
    assert cross == pytest.approx(np.trace(root).real, rel=1e-3)


def test_frechet_bias_of_a_finite_sample(rng):
    # n draws of N(0, I_d) against the law itself: E = d/n + (d^2 + d)/(4 n) to first order.
    n, d = 2000, 64
    law = moments(np.zeros(d), np.eye(d))
    values = [frechet_distance(Moments(rng.normal(size=(n, d))), law) for _ in range(20)]
    expected = d / n + (d**2 + d) / (4 * n)
    assert np.mean(values) == pytest.approx(expected, rel=0.02)


def test_frechet_refuses_other_dimensions_and_single_points(rng):
    with pytest.raises(ValueError, match="of 3 and of 2 dimensions"):
        frechet_distance(Moments(rng.normal(size=(9, 3))), Moments(rng.normal(size=(9, 2))))
    with pytest.raises(ValueError, match="at least 2 features, not 1"):
        frechet_distance(Moments(np.ones((1, 3))), Moments(np.ones((9, 3))))


# Wasserstein distance


def test_w2_of_a_shift_is_its_length(rng):
    x, shift = rng.normal(size=(200, 3)), np.array([1.0, -2.0, 2.0])
    assert w2(x, x + shift) == pytest.approx(3, rel=1e-9)
    assert w2(x, rng.permutation(x)) == pytest.approx(0, abs=1e-7)


def test_w2_equals_the_best_assignment(rng):
    x, y = rng.normal(size=(150, 2)), rng.uniform(-2, 3, size=(150, 2))
    cost = np.square(x[:, None] - y[None]).sum(2)
    assert w2(x, y) == pytest.approx(np.sqrt(cost[linear_sum_assignment(cost)].mean()), rel=1e-9)
    assert w2(y, x) == pytest.approx(w2(x, y), rel=1e-9)


def test_w2_of_unequal_sizes(rng):
    x, y = rng.normal(size=(30, 2)), rng.normal(size=(20, 2))
    assert w2(np.repeat(x, 2, 0), np.repeat(y, 3, 0)) == pytest.approx(w2(x, y), rel=1e-9)
    assert w2(x, np.zeros((1, 2))) == pytest.approx(np.sqrt(np.square(x).sum(1).mean()), rel=1e-12)


def test_w2_says_when_it_does_not_converge(rng, monkeypatch):
    monkeypatch.setattr("evaluation.metrics.wasserstein.MAX_ITERATIONS", 3)
    with pytest.raises(RuntimeError, match="did not converge"):
        w2(rng.normal(size=(100, 2)), rng.normal(size=(100, 2)))


def test_sliced_w2_in_one_dimension_is_the_quantile_formula(rng):
    x, y = rng.normal(size=(101, 1)), rng.exponential(size=(101, 1))
    expected = np.sqrt(np.square(np.sort(x, 0) - np.sort(y, 0)).mean())
    assert sliced_w2(x, y, 3) == pytest.approx(expected, rel=1e-9)
    assert w2(x, y) == pytest.approx(expected, rel=1e-9)


def test_sliced_w2_of_a_shift(rng):
    # (u.s)^2 averages to |s|^2 / d over the sphere.
    x, shift = rng.normal(size=(50, 4)), np.array([2.0, 0.0, 0.0, 0.0])
    assert sliced_w2(x, x + shift, 20_000) == pytest.approx(1, rel=0.02)
    assert sliced_w2(x, x + shift) == sliced_w2(x, x + shift)
    assert sliced_w2(x, x + shift, seed=1) != sliced_w2(x, x + shift)


def test_sliced_w2_leaves_the_global_rng_alone(rng):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    sliced_w2(rng.normal(size=(5, 2)), rng.normal(size=(6, 2)))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("metric", [w2, sliced_w2])
def test_w2_refuses_bad_points(metric):
    with pytest.raises(ValueError, match="two non-empty sets"):
        metric(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="two non-empty sets"):
        metric(np.zeros((0, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="not finite"):
        metric(np.full((3, 2), np.inf), np.zeros((3, 2)))


# The table


def test_metrics_need_no_torch():
    code = "import sys, evaluation.metrics.frechet, evaluation.metrics.wasserstein; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_table_covers_every_primary_metric():
    from fewstep.facts import DATASETS

    for facts in DATASETS.values():
        assert facts.family in METRICS[facts.primary].families
