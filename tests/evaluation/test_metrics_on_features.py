"""Kernel distance, precision and its relatives, Inception Score: against other codes, by hand and in closed form."""

import numpy as np
import pytest
import torch

from evaluation.extractors import EXTRACTORS
from evaluation.metrics import METRICS
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import Kernel, kernel_distance, mmd2
from evaluation.metrics.prdc import Manifold, Prdc, prdc


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# Kernel distance


def test_subsets_equal_torch_fidelity(rng):
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = rng.normal(size=(300, 24)), rng.normal(size=(260, 24)) * 1.2 + 0.2
    options = {"kid_subsets": 7, "kid_subset_size": 90, "verbose": False}
    expected = theirs.kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **options)
    draws = np.random.RandomState(2020)  # torch-fidelity's subsets
    values = [mmd2(a[draws.choice(300, 90, False)], b[draws.choice(260, 90, False)]) for _ in range(7)]
    assert np.mean(values) == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    assert np.std(values) == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9)


def test_all_features_at_once_equal_torch_fidelity_and_the_definition(rng):
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = rng.normal(size=(120, 16)), rng.normal(size=(120, 16)) + 0.3
    found = kernel_distance(a, b)
    assert found.size == 0 and found.subsets == 1 and found.sd is None  # too few for subsets of 1,000, and says so
    options = {"kid_subsets": 1, "kid_subset_size": 120, "verbose": False}
    expected = theirs.kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **options)
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)
    a = a[:7]  # sets of different size, by explicit sums over pairs

    def k(x, y):
        return (x @ y / 16 + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    across = np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b).value == pytest.approx(sum(within) - 2 * across, rel=1e-9)


def test_the_kernel_distance_is_unbiased(rng, monkeypatch):
    # Of the same law: mean zero, also for few features.
    values = [kernel_distance(rng.normal(size=(15, 6)), rng.normal(size=(15, 6))).value for _ in range(3000)]
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5
    monkeypatch.setattr("evaluation.metrics.kid.BLOCK", 7)  # blocks change nothing
    a, b = rng.normal(size=(50, 6)), rng.normal(size=(40, 6))
    small = mmd2(a, b)
    monkeypatch.undo()
    assert small == pytest.approx(mmd2(a, b), rel=1e-9)


def test_one_side_of_many_kernel_distances(rng):
    reference = rng.normal(size=(300, 8))
    kernel = Kernel(reference)
    for shift in (0, 0.5, 1):
        x = rng.normal(size=(200, 8)) + shift
        assert kernel.distance(x) == kernel_distance(x, reference)
        assert kernel.distance(x, 4, 100) == kernel_distance(x, reference, 4, 100)


def test_subsets_have_their_own_seed(rng):
    a, b = rng.normal(size=(400, 8)), rng.normal(size=(400, 8)) + 0.5
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = kernel_distance(a, b, subsets=5, size=100)
    assert first == kernel_distance(a, b, subsets=5, size=100) != kernel_distance(a, b, subsets=5, size=100, seed=1)
    assert (first.subsets, first.size) == (5, 100) and first.sd > 0
    assert first.value == pytest.approx(mmd2(a, b), abs=6 * first.sd)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# Precision, recall, density, coverage


def test_prdc_equals_the_authors_code_and_torch_fidelity(rng, monkeypatch):
    authors = pytest.importorskip("prdc")
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    monkeypatch.setattr("evaluation.metrics.prdc.BLOCK", 70)  # several blocks, the last one short
    real, generated = rng.normal(size=(250, 6)), rng.normal(size=(230, 6)) * 0.9 + 0.4
    for k in (3, 5):
        ours = prdc(Manifold(real, k), Manifold(generated, k))
        assert ours._asdict() == pytest.approx(authors.compute_prdc(real, generated, nearest_k=k), rel=1e-9)
        tensors = torch.from_numpy(generated), torch.from_numpy(real)
        theirs = fidelity.prc_features_to_metric(*tensors, prc_neighborhood=k, verbose=False)
        assert ours[:2] == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)
        assert 0 < ours.precision < 1 and 0 < ours.recall < 1


def test_prdc_by_hand():
    # Real points 0, 1, 2, 10 with k = 1: radii 1, 1, 1, 8. Generated 0.5, 3.5, 30: radii 3, 3, 26.5.
    real, generated = (Manifold(np.array(x)[:, None], k=1) for x in ([0.0, 1, 2, 10], [0.5, 3.5, 30]))
    np.testing.assert_allclose(real.radii, [1, 1, 1, 8], rtol=2e-5)  # a hair less, so that the surface is outside
    np.testing.assert_allclose(generated.radii, [3, 3, 26.5], rtol=2e-5)
    # 0.5 is in the balls of 0 and 1; 3.5 in that of 10; 30 in none. 10 is within 26.5 of 30; 0, 1, 2 near 0.5.
    assert prdc(real, generated) == Prdc(precision=2 / 3, recall=1.0, density=3 / 3, coverage=3 / 4)
    far = Manifold(np.array([[100.0], [101.0]]), k=1)
    assert prdc(real, far) == Prdc(0.0, 0.0, 0.0, 0.0)


def test_points_on_the_edge_are_outside_as_in_the_authors_code():
    # Radii 1, 1, 4. 2 and 3 are less than 4 from 5; 9 is exactly 4 from it, which torch-fidelity (<=) counts as inside.
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    real, generated = np.array([[0.0], [1.0], [5.0]]), np.array([[2.0], [3.0], [9.0]])
    assert prdc(Manifold(real, 1), Manifold(generated, 1)).precision == 2 / 3
    tensors = torch.from_numpy(generated), torch.from_numpy(real)
    theirs = fidelity.prc_features_to_metric(*tensors, prc_neighborhood=1, verbose=False)
    assert theirs["precision"] == 1.0


def test_equal_sets_are_inside_each_other(rng):
    x = Manifold(rng.normal(size=(200, 4)))
    same = prdc(x, x)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(1, abs=0.01)  # the point itself and its k - 1 nearer neighbours, over k


def test_large_sets_are_thinned_by_seed(rng):
    f = rng.normal(size=(120, 3))
    kept = Manifold(f, limit=50).points
    assert len(kept) == 50 == len(np.unique(kept, axis=0)) and all((row == f).all(1).any() for row in kept)
    assert np.array_equal(kept, Manifold(f, limit=50).points)
    assert not np.array_equal(kept, Manifold(f, limit=50, seed=1).points)
    with pytest.raises(ValueError, match="5 neighbours need more than 5 features"):
        Manifold(f[:5])
    with pytest.raises(ValueError, match="same k and dimension"):
        prdc(Manifold(f), Manifold(f, k=3))


# Inception Score


def test_inception_score_of_known_distributions(rng):
    certain = np.tile(1000 * np.eye(8), (50, 1))  # each class equally often, each image certain of its own
    assert inception_score(certain, seed=None)[0] == pytest.approx(8, rel=1e-12)
    assert inception_score(np.zeros((100, 8)))[0] == pytest.approx(1, rel=1e-12)
    assert inception_score(np.tile(1000 * np.eye(8)[0], (100, 1)))[0] == pytest.approx(1, rel=1e-12)
    mean, sd = inception_score(np.repeat(certain[:8], 10, 0), splits=10, seed=None)  # sorted: few classes a split
    assert mean < 3 and sd >= 0
    assert inception_score(np.repeat(certain[:8], 10, 0), splits=10)[0] > 4  # shuffled


def test_inception_score_equals_torch_fidelity(rng):
    theirs = pytest.importorskip("torch_fidelity.metric_isc")
    logits = rng.normal(size=(137, 20)) * 3
    expected = theirs.isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    mean, sd = inception_score(logits, seed=None)
    assert mean == pytest.approx(expected["inception_score_mean"], rel=1e-10)
    assert sd == pytest.approx(expected["inception_score_std"], rel=1e-10)
    with pytest.raises(ValueError, match="at least 10 images, not 9"):
        inception_score(logits[:9])


# All of them


@pytest.mark.parametrize("metric", [kernel_distance, lambda a, b: prdc(Manifold(a), Manifold(b))])
def test_bad_features_are_refused(metric, rng):
    good = rng.normal(size=(20, 3))
    bads = good[:, :2], good[0], good[:0], np.where(good > 2, np.nan, good * np.inf)
    for bad in bads:
        with pytest.raises(ValueError, match=r"dimension|must be|not finite"):
            metric(good, bad)


def test_the_table_names_every_metric_of_every_extractor_once():
    for name, spec in EXTRACTORS.items():
        wanted = {spec.frechet, f"{spec.frechet}_inf", spec.kernel, f"nearest_{name}"}
        wanted |= {f"{kind}_{name}" for kind in Prdc._fields}
        assert wanted <= METRICS.keys()
    assert METRICS["fid"].label == "FID" and METRICS["fid_pytorch"].label != "FID"
    assert "inception_score" in METRICS and METRICS["recall_dinov2"].higher_is_better
    assert not any(METRICS[spec.frechet].higher_is_better for spec in EXTRACTORS.values())
    assert len({row.label for row in METRICS.values()}) == len(METRICS)
    assert not any("FID" in METRICS[spec.frechet].label for n, spec in EXTRACTORS.items() if "inception" not in n)
