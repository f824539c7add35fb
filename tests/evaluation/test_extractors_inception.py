"""From files on disk to metrics: the numbers of torch-fidelity and pytorch-fid, with a real network, random weights."""

import os

import numpy as np
import pytest
import torch

from evaluation.extractors import inception, inception_pytorch, open_extractor
from evaluation.metrics.frechet import Moments, frechet_distance
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import kernel_distance
from evaluation.metrics.prdc import Manifold, prdc
from fewstep.errors import UserError
from tests.evaluation import networks

torch_fidelity = pytest.importorskip("torch_fidelity")
fid_score = pytest.importorskip("pytorch_fid.fid_score")
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:The `disp` argument"),
]
N, K = 90, 3  # more images than the 64 features of the first tap, so that covariances have full rank


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return networks.save_inception(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(images, folder of the same as PNG) of two sets: generated, real."""
    root = tmp_path_factory.mktemp("images")
    sets = {"generated": networks.pictures(N, 0, tint=40), "real": networks.pictures(N, 1)}
    return [(images, networks.write_pngs(images, root / name)) for name, images in sets.items()]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    images = networks.pictures(12, 2)
    return images, networks.write_pngs(images, tmp_path_factory.mktemp("few") / "png")


def torch_fidelity_says(weights, one, two=None, **options):
    options |= {"feature_extractor_weights_path": str(weights[0]), "feature_extractor": "inception-v3-compat"}
    quiet = {"cuda": False, "cache": False, "verbose": False, "batch_size": 10}
    return torch_fidelity.calculate_metrics(input1=str(one), input2=two and str(two), **options, **quiet)


@pytest.mark.slow
def test_fid_kid_precision_and_recall_equal_torch_fidelity(weights, folders):
    (generated, generated_folder), (real, real_folder) = folders
    layers = {f"feature_layer_{metric}": "64" for metric in ("fid", "kid", "prc")}
    options = {"fid": True, "kid": True, "prc": True, "kid_subsets": 1, "kid_subset_size": N, "prc_neighborhood": K}
    theirs = torch_fidelity_says(weights, generated_folder, real_folder, **layers, **options)

    extractor = inception.load(*weights, layer="64")
    f, g = extractor.features(generated), extractor.features(real)
    assert f.shape == (N, 64) and Moments(f).covariance.any()
    ours = frechet_distance(Moments(f), Moments(g))
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    kid = kernel_distance(f, g, size=N + 1).value
    assert kid == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)  # theirs sums in float32
    shares = prdc(Manifold(g, K), Manifold(f, K))
    assert (shares.precision, shares.recall) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)
    assert 0 < shares.precision < 1 and ours > 0


@pytest.mark.slow
def test_full_features_and_inception_score_equal_torch_fidelity(weights, few):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images, folder = few
    extractor = open_extractor("inception", *weights[:1], sha256=weights[1])
    features, logits = extractor.features_and_logits(images)
    net = FeatureExtractorInceptionV3("any", ["2048", "logits_unbiased"], str(weights[0]))
    expected = net(torch.from_numpy(images))
    assert features.shape == (12, 2048) and logits.shape == (12, 1008)
    for mine, theirs in zip((features, logits), expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-4 * theirs.abs().max())  # other batches
    theirs = torch_fidelity_says(weights, folder, isc=True, isc_splits=2, samples_shuffle=False)
    mean, sd = inception_score(logits, splits=2, seed=None)
    assert mean == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert sd == pytest.approx(theirs["inception_score_std"], rel=1e-4, abs=1e-6)
    assert extractor.identity["weights"] == weights[1]


@pytest.mark.slow
def test_fid_equals_pytorch_fid(weights, folders):
    extractor = inception_pytorch.load(*weights, dim=64)
    ours, theirs = [], []
    for images, folder in folders:
        ours.append(Moments(extractor.features(images)))
        files = sorted(folder.glob("*.png"))
        theirs += fid_score.calculate_activation_statistics(files, extractor.net, 10, 64, "cpu", 0)
    expected = fid_score.calculate_frechet_distance(*theirs)
    assert frechet_distance(*ours) == pytest.approx(expected, rel=1e-6)


def test_pytorch_fid_gets_its_weights_without_a_network_and_unmixed(weights, few):
    hub = torch.hub.get_dir()
    mine = open_extractor("inception_pytorch", weights[0], sha256=weights[1])
    assert torch.hub.get_dir() == hub
    state = torch.load(weights[0], weights_only=True)
    assert torch.equal(mine.net.blocks[3][2].branch_pool.conv.weight, state["Mixed_7c.branch_pool.conv.weight"])
    assert mine.features(few[0][:2]).shape == (2, 2048)


def test_the_two_backends_differ_at_32_pixels(weights, few):
    # Same weights, other resize: their FIDs must never share a name.
    a, b = inception.load(*weights, layer="64"), inception_pytorch.load(*weights, dim=64)
    f, g = a.features(few[0]), b.features(few[0])
    assert np.abs(f - g).max() > 1e-2 * np.abs(f).max()
    assert a.identity["resize"] != b.identity["resize"] and a.spec.frechet != b.spec.frechet


def test_weights_of_another_network_are_one_line(tmp_path):
    path, sha256 = networks.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name in ("inception", "inception_pytorch", "dinov2", "lite0"):
        with pytest.raises(UserError, match="holds the weights of another network") as error:
            open_extractor(name, path, sha256=sha256)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


class Code:
    """Unpickling this makes a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_weights_that_hold_code_are_refused_and_never_run(tmp_path):
    state = {"Conv2d_1a_3x3.conv.weight": Code(tmp_path / "ran")}
    path, sha256 = networks.save(state, tmp_path / "code.pth")
    for name in ("inception", "inception_pytorch", "dinov2", "lite0"):
        with pytest.raises(UserError, match="not a file of PyTorch weights"):
            open_extractor(name, path, sha256=sha256)
    assert not (tmp_path / "ran").exists()
