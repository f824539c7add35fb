"""Moments that can be taken apart, stored and read; distances against other codes; extrapolation against theory."""

import numpy as np
import pytest

from evaluation.metrics.fd_infinity import fd_infinity
from evaluation.metrics.frechet import Gaussian, Moments, Target, frechet_distance, root_of, warning_of
from evaluation.metrics.published import read_statistics
from fewstep.errors import UserError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def features(rng, n, d, shift=0.0):
    """Correlated features with a spectrum that decays, as those of networks do."""
    return rng.normal(size=(n, d)) * np.exp(-np.arange(d) / d) @ rng.normal(size=(d, d)) / d**0.5 + 0.3 + shift


# Distances


def test_the_distance_equals_torch_fidelitys_and_pytorch_fids(rng):
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    pytorch = pytest.importorskip("pytorch_fid.fid_score")
    a, b = features(rng, 900, 96, 0.1), features(rng, 700, 96)
    ours = frechet_distance(Moments(a), Moments(b))
    statistics = [{"mu": f.mean(0), "sigma": np.cov(f, rowvar=False)} for f in (a, b)]
    theirs = fidelity.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(theirs, rel=1e-9)
    with pytest.warns(DeprecationWarning):  # scipy's sqrtm(disp=…)
        theirs = pytorch.calculate_frechet_distance(*(s[key] for s in statistics for key in ("mu", "sigma")))
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_fewer_samples_than_dimensions_agree_with_torch_fidelity(rng):
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = features(rng, 40, 96, 0.1), features(rng, 50, 96)
    statistics = [{"mu": f.mean(0), "sigma": np.cov(f, rowvar=False)} for f in (a, b)]
    theirs = fidelity.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(Moments(a), Moments(b)) == pytest.approx(theirs, rel=1e-6)


def test_one_target_for_many_distances(rng):
    reference = Moments(features(rng, 500, 30))
    target = Target(reference)
    for shift in (0, 0.5, 2):
        other = Moments(features(rng, 200, 30, shift))
        assert target.distance(other) == pytest.approx(frechet_distance(other, reference), rel=1e-9)
    with pytest.raises(ValueError, match="of 30 and of 29 dimensions"):
        target.distance(Moments(features(rng, 50, 29)))


@pytest.mark.parametrize("n", [400, 40, 3])  # full rank, Cholesky; fewer samples than dimensions, eigenvectors
def test_a_root_gives_its_covariance_back(rng, n):
    covariance = Moments(features(rng, n, 60)).covariance
    root = root_of(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-10 * np.trace(covariance))


def test_given_gaussians_have_the_closed_form():
    # Commuting covariances: |gap|² + Σ (√a - √b)².
    mean, a, b = np.array([1.0, -2.0, 0.5]), np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0])
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    one = Gaussian(mean, rotation @ np.diag(a) @ rotation.T)
    two = Gaussian(np.zeros(3), rotation @ np.diag(b) @ rotation.T)
    expected = np.square(mean).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-7)
    assert frechet_distance(two, one) == pytest.approx(expected, rel=1e-7)


def test_singular_estimates_are_named():
    assert warning_of(300, 1280) == "singular: 300 samples for 1,280 dimensions"
    assert warning_of(1280, 1280) and not warning_of(1281, 1280)
    rng = np.random.default_rng(0)
    for n in (20, 21):  # the warning and the rank say the same
        rank = np.linalg.matrix_rank(Moments(rng.normal(size=(n, 20))).covariance)
        assert (rank < 20) == bool(warning_of(n, 20))


# Moments


def test_without_a_part_equals_the_rest(rng):
    f = features(rng, 600, 40) * np.logspace(-3, 3, 40) + 1e3
    blocks = np.split(f, [50, 51, 300])
    whole = Moments()
    for block in blocks:
        whole.update(block)
    for i, block in enumerate(blocks):
        rest, expected = whole.without(Moments(block)), np.concatenate(blocks[:i] + blocks[i + 1 :])
        assert rest.n == len(expected)
        np.testing.assert_allclose(rest.mean, expected.mean(0), rtol=1e-10)
        scale = np.sqrt(np.outer(expected.var(0), expected.var(0)))
        assert (np.abs(rest.covariance - np.cov(expected.T)) / scale).max() < 1e-10
    assert whole.n == 600
    np.testing.assert_allclose(whole.mean, f.mean(0), rtol=1e-12)  # untouched


def test_without_refuses_what_cannot_be_taken(rng):
    whole = Moments(rng.normal(size=(10, 3)))
    for part, match in (
        (whole, "10 features out of 10"),
        (Moments(), "0 features out of 10"),
        (Moments(np.ones((2, 4))), "4 dim"),
    ):
        with pytest.raises(ValueError, match=match):
            whole.without(part)


def test_updates_keep_no_hold_on_what_they_were_given(rng):
    f = rng.normal(size=(50, 4))
    a, b = Moments(f[:20]), Moments(f[20:])
    merged = Moments().merge(a)
    merged.merge(b)
    np.testing.assert_array_equal(a.covariance, Moments(f[:20]).covariance)
    np.testing.assert_array_equal(b.covariance, Moments(f[20:]).covariance)
    before = merged.covariance
    Moments().merge(merged).update(f)
    np.testing.assert_array_equal(merged.covariance, before)


# Published statistics


def test_published_statistics_are_read_as_they_are(rng, tmp_path):
    moments = Moments(features(rng, 200, 12))
    np.savez(tmp_path / "ref.npz", mu=moments.mean, sigma=moments.covariance)
    published = read_statistics(tmp_path / "ref.npz", dim=12)
    assert published.n is None
    other = Moments(features(rng, 200, 12, 0.5))
    assert frechet_distance(other, published) == pytest.approx(frechet_distance(other, moments), rel=1e-12)


def test_broken_statistics_are_one_line(rng, tmp_path):
    mean, covariance = np.zeros(3), np.eye(3)
    lopsided = covariance + np.triu(np.ones((3, 3)), 1)
    files = {
        "other keys": {"mean": mean, "sigma": covariance},
        "pickle": {"mu": np.array([{}], object), "sigma": covariance},
        "text": {"mu": np.array(["a", "b", "c"]), "sigma": covariance},
        "shape": {"mu": mean, "sigma": np.eye(4)},
        "scalar": {"mu": np.float64(0), "sigma": covariance},
        "nan": {"mu": mean * np.nan, "sigma": covariance},
        "infinite": {"mu": mean, "sigma": covariance + np.inf},
        "lopsided": {"mu": mean, "sigma": lopsided},
    }
    for name, arrays in files.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "not zip.npz").write_bytes(b"PK but not really")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", mean)
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "absent.npz", tmp_path]
    assert len(paths) == len(files) + 5
    for path in paths:
        with pytest.raises(UserError) as error:
            read_statistics(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    np.savez(tmp_path / "fine.npz", mu=mean, sigma=covariance)
    with pytest.raises(UserError, match="of 3 features, not 2048; it belongs to another extractor"):
        read_statistics(tmp_path / "fine.npz", dim=2048)


# Extrapolation


def test_extrapolation_removes_the_bias(rng):
    # n draws of N(0, I_d) against the law itself are d/n + (d² + d)/(4n) apart by the sample's size alone.
    n, d = 4000, 16
    law = Target(Gaussian(np.zeros(d), np.eye(d)))
    slope = d + (d**2 + d) / 4
    runs = [fd_infinity(rng.normal(size=(n, d)), law, seed=i) for i in range(8)]
    naive = np.mean([run.distances[-1] for run in runs])
    assert naive == pytest.approx(slope / n, rel=0.1)
    assert abs(np.mean([run.value for run in runs])) < 0.15 * naive
    assert np.mean([run.slope for run in runs]) == pytest.approx(slope, rel=0.1)


def test_extrapolation_keeps_the_true_distance_and_its_protocol(rng):
    f = rng.normal(size=(3000, 8)) + 0.5
    law = Gaussian(np.zeros(8), np.eye(8))
    run = fd_infinity(f, law)
    assert run.value == pytest.approx(8 * 0.25, rel=0.05)
    assert len(run.sizes) == 15 and (run.sizes[0], run.sizes[-1]) == (300, 3000)
    assert run.distances[-1] == pytest.approx(frechet_distance(Moments(f), law), rel=1e-9)  # all of them, once each
    assert run == fd_infinity(f, law) and run != fd_infinity(f, law, seed=1)
    assert fd_infinity(np.tile(f, (20, 1)), law, points=3).sizes[0] == 5000
    with pytest.raises(ValueError, match="at least 20"):
        fd_infinity(f[:19], law)
