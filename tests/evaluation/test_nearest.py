"""Distance to the nearest training image: against all distances at once, and what copies and fresh draws must give."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from evaluation.extractors import open_extractor
from evaluation.features import ReferenceFeatures
from evaluation.judges.images import FeatureJudge
from evaluation.metrics.frechet import Moments
from evaluation.metrics.nearest import Reference


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_ratio_of_the_mean_least_distances(rng, dtype):
    reference, generated = (rng.normal(size=(n, 24)).astype(dtype) for n in (700, 300))
    among = cdist(reference, reference)
    np.fill_diagonal(among, np.inf)
    expected = cdist(generated, reference).min(1).mean() / among.min(1).mean()
    found = Reference(reference)
    assert found.spacing == pytest.approx(among.min(1).mean(), rel=1e-6)
    assert found.nearest(generated) == pytest.approx(expected, rel=1e-6)


def test_by_hand():
    # Reference 0, 1, 3: nearest others at 1, 1, 2. Generated 0.5 and 5: nearest at 0.5 and 2.
    found = Reference(np.array([[0.0], [1.0], [3.0]]))
    assert found.spacing == pytest.approx(4 / 3)
    assert found.nearest(np.array([[0.5], [5.0]])) == pytest.approx(1.25 / (4 / 3))


def test_copies_give_zero_and_fresh_draws_one(rng):
    x, fresh, scale = rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4)), 1000
    reference = Reference(x)
    assert reference.nearest(x[rng.permutation(2000)[:500]]) == pytest.approx(0, abs=1e-6)
    assert reference.nearest(fresh) == pytest.approx(1, abs=0.05)
    half = np.concatenate([x[:500], fresh[:500]])
    assert reference.nearest(half) == pytest.approx(0.5, abs=0.05)
    assert reference.nearest(x + 50) > 100
    assert Reference(scale * x).nearest(scale * fresh) == pytest.approx(reference.nearest(fresh), rel=1e-9)


def test_a_duplicate_in_the_reference_set_is_a_neighbour_at_no_distance():
    assert Reference(np.array([[0.0], [0.0], [4.0]])).spacing == pytest.approx(4 / 3, abs=1e-6)
    x = np.random.default_rng(0).normal(size=(50, 64)) + 10
    twice = Reference(np.concatenate([x, x]))
    assert twice.spacing == 0
    with pytest.raises(ValueError, match="has a copy among the others"):
        twice.nearest(x)


def test_only_what_is_looked_up_is_thinned(rng):
    """A copy is found wherever it lies in the reference set."""
    x = rng.normal(size=(400, 3))
    thinned, whole = Reference(x, limit=100), Reference(x)
    assert thinned.nearest(x) == pytest.approx(0, abs=1e-6)
    fresh = rng.normal(size=(400, 3))
    assert thinned.nearest(fresh) == Reference(x, limit=100).nearest(fresh)
    assert thinned.nearest(fresh) == pytest.approx(whole.nearest(fresh), rel=0.3)
    assert thinned.nearest(fresh) != Reference(x, limit=100, seed=1).nearest(fresh)


def test_bad_features_are_refused(rng):
    good = rng.normal(size=(20, 3))
    for bad in (good[:, :2], good[0], good[:0], np.where(good > 1, np.nan, good)):
        with pytest.raises(ValueError, match=r"dimension|must be|not finite"):
            Reference(good).nearest(bad)
    with pytest.raises(ValueError, match="at least 2 features in the reference set"):
        Reference(good[:1])


def test_images_that_all_have_a_copy_skip_the_metric_alone():
    extractor = open_extractor("digits")
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    features = extractor.features(np.concatenate([images, images])).astype(np.float32)
    reference = ReferenceFeatures(Moments(features), features, 80, "")
    rows = {row["metric"]: row for row in FeatureJudge(extractor, reference, ["fd", "nearest"]).rows(images)}
    assert rows["nearest_digits"]["status"] == "skipped" and "has a copy" in rows["nearest_digits"]["reason"]
    assert rows["fd_digits"]["value"] is not None


def test_the_judge_gives_a_row_of_the_block():
    extractor = open_extractor("digits")
    images = np.random.default_rng(0).integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    features = extractor.features(images).astype(np.float32)
    judge = FeatureJudge(extractor, ReferenceFeatures(Moments(features), features, 100, ""), ["nearest"])
    (row,) = judge.rows(images[:10])
    assert row["value"] == pytest.approx(0, abs=1e-4) and (row["n_generated"], row["n_reference"]) == (10, 100)
    (row,) = judge.rows(255 - images[:1])
    assert row["value"] == pytest.approx(Reference(features).nearest(extractor.features(255 - images[:1])), rel=1e-5)
