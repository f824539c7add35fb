"""The shipped classifier is the one that was measured, and its distance orders images as an eye would."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_digits

from evaluation.extractors import train_digits
from evaluation.extractors.digits import CHECKSUM, FEATURES, WEIGHTS, classifier, features, verified
from evaluation.metrics.frechet import Moments, frechet_distance
from fewstep.data import load
from fewstep.errors import UserError
from fewstep.images import from_uint8, to_uint8


@pytest.fixture(scope="module")
def digits():
    return torch.from_numpy(load_digits().images).float().unsqueeze(1) / 8 - 1


@pytest.fixture(scope="module")
def reference(digits):
    return Moments(features(digits))


def test_the_dataset_is_scikit_learns(digits):
    assert torch.equal(load("digits").reference, digits)


def test_quantisation():
    x = torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])
    assert to_uint8(x).tolist() == [0, 0, 128, 255, 255] and to_uint8(x).dtype == torch.uint8
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(from_uint8(levels)), levels)
    assert from_uint8(levels)[[0, 255]].tolist() == [-1, 1]


def test_weights_are_small_and_match_their_checksum_and_accuracy():
    assert WEIGHTS.stat().st_size < 500_000
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == CHECKSUM.read_text().split()[0]
    with safe_open(WEIGHTS, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert {"accuracy", "seed", "torch"} <= facts.keys()
    _, x_test, _, y_test = train_digits.split()
    accuracy = (classifier()(x_test).argmax(1) == y_test).double().mean().item()
    assert accuracy == pytest.approx(float(facts["accuracy"]), abs=0.003) and accuracy >= 0.97


def test_damaged_or_missing_weights_are_named_in_one_line(tmp_path):
    weights, checksum = tmp_path / WEIGHTS.name, tmp_path / CHECKSUM.name
    weights.write_bytes(WEIGHTS.read_bytes()[:-1] + b"\0")
    checksum.write_text(CHECKSUM.read_text())
    with pytest.raises(UserError, match=r"digits_cnn\.safetensors does not match .*git checkout") as error:
        verified(weights, checksum)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        verified(tmp_path / "absent", checksum)


def test_every_form_of_the_same_images_gives_the_same_features(digits):
    x = digits[:50] + 0.01
    expected = features(x)
    assert expected.shape == (50, FEATURES) and expected.dtype == np.float64
    for form in (to_uint8(x), to_uint8(x).numpy(), x.numpy(), x[:, 0], from_uint8(to_uint8(x)), x.double()):
        assert np.array_equal(features(form), expected)
    np.testing.assert_allclose(features(x, batch=7), expected, rtol=1e-4, atol=1e-5)
    assert features(x[:0]).shape == (0, FEATURES)


def test_bad_images_are_refused(digits):
    with pytest.raises(ValueError, match=r"not \(2, 3, 8, 8\)"):
        features(np.zeros((2, 3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"not torch\.int64"):
        features(np.zeros((2, 8, 8), np.int64))
    with pytest.raises(ValueError, match="not finite"):
        features(digits[:2] * float("nan"))


def test_features_are_alive(digits):
    variances = features(digits).var(0)
    assert (variances > 1e-3 * variances.mean()).sum() >= 0.9 * FEATURES


def test_distance_grows_with_damage(digits, reference):
    g, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)

    def distance(x):
        return frechet_distance(Moments(features(x)), reference)

    def noisy(std):
        return digits + std * torch.randn(digits.shape, generator=g)

    f = features(digits)
    floor = np.mean([frechet_distance(Moments(f[rng.integers(0, len(f), len(f))]), reference) for _ in range(5)])
    steps = [distance(noisy(std)) for std in (0, 0.05, 0.1, 0.3, 0.5, 1)]
    noise = distance(torch.randn(digits.shape, generator=g))
    assert steps[0] == pytest.approx(0, abs=1e-6)
    assert steps == sorted(steps)
    assert floor < steps[2] < 10 * floor and steps[3] > 10 * floor
    assert noise > steps[-1] and noise > 300 * floor


def test_loading_and_features_leave_the_global_rng_alone(digits):
    before = torch.random.get_rng_state()
    classifier.cache_clear()
    features(digits[:5])
    assert torch.equal(torch.random.get_rng_state(), before)
