"""What every extractor promises: its interface, clear refusals, and features that only the image decides."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.extractors import EXTRACTORS, base, digits, dinov2, open_extractor
from fewstep.errors import UserError
from fewstep.weights import INCEPTION
from tests.evaluation import networks

VIT = {"architecture": "vit_small_patch14_dinov2.lvd142m", "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def extractors(tmp_path_factory):
    """Every extractor by name; those whose weights cannot be here with random ones, DINOv2 as a small ViT."""
    import timm

    folder = tmp_path_factory.mktemp("weights")
    options = {k: v for k, v in VIT.items() if k != "architecture"}
    vit = timm.create_model(VIT["architecture"], pretrained=False, num_classes=0, img_size=518, **options)
    small = networks.save(networks.randomise(vit).state_dict(), folder / "vit.pth")
    path, sha256 = networks.save_inception(folder)
    inceptions = {name: open_extractor(name, path, sha256=sha256) for name in ("inception", "inception_pytorch")}
    others = {name: open_extractor(name) for name in ("digits", "lite0")}
    return inceptions | others | {"dinov2": dinov2.load(*small, **VIT)}


@pytest.fixture(params=EXTRACTORS)
def extractor(request, extractors):
    return extractors[request.param]


def images_for(extractor, n=3):
    spec = extractor.spec
    return networks.pictures(n, 0, spec.size or 32)[:, : max(spec.channels)]


def test_the_table_needs_no_network_library():
    code = "import sys, evaluation.extractors as e, evaluation.metrics; "
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_features_have_the_declared_form(extractor):
    u = images_for(extractor)
    f = extractor.features(u)
    wanted = extractor.spec.dim if extractor.name != "dinov2" else VIT["embed_dim"]
    assert f.shape == (3, wanted) == (3, extractor.dim) and f.dtype in (np.float32, np.float64)
    assert np.isfinite(f).all() and (f.std(0) > 0).any()
    assert np.array_equal(extractor.features(torch.from_numpy(u.copy())), f)
    assert extractor.has_logits == extractor.spec.has_logits


def test_an_image_has_its_features_in_any_batch_and_order(extractor):
    u = images_for(extractor, 6)
    f = extractor.features(u)
    np.testing.assert_allclose(extractor.features(u[::-1])[::-1], f, rtol=1e-4, atol=1e-5 * np.abs(f).max())
    np.testing.assert_allclose(extractor.features(u[2:3]), f[2:3], rtol=1e-4, atol=1e-5 * np.abs(f).max())


def test_nothing_global_changes(extractor):
    rng, tf32 = torch.random.get_rng_state(), (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    before = [p.clone() for p in extractor.net.parameters()]
    extractor.features(images_for(extractor))
    assert torch.equal(torch.random.get_rng_state(), rng) and torch.is_grad_enabled()
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == tf32
    assert not extractor.net.training and not any(p.requires_grad for p in extractor.net.parameters())
    assert all(torch.equal(p, q) for p, q in zip(before, extractor.net.parameters(), strict=True))


@pytest.fixture
def tf32():
    """TF32 is allowed, as it may be where this is used."""
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = True
    yield lambda: [switch.allow_tf32 for switch in switches]
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


def test_tf32_is_off_inside_and_restored_after_an_error(tf32):
    with pytest.raises(RuntimeError), base.exact_float32():
        assert tf32() == [False, False]
        raise RuntimeError
    assert tf32() == [True, True]


def test_a_forward_pass_runs_without_tf32(extractors, tf32):
    seen, extractor = [], extractors["lite0"]
    hook = extractor.net._conv_stem.register_forward_hook(lambda *_: seen.append(tf32()))
    extractor.features(images_for(extractor))
    hook.remove()
    assert seen == [[False, False]] and tf32() == [True, True]


def test_opening_leaves_the_global_rng_alone(tmp_path):
    path, sha256 = networks.save_inception(tmp_path)
    before = torch.random.get_rng_state()
    digits.classifier.cache_clear()
    open_extractor("digits"), open_extractor("lite0")
    open_extractor("inception", path, sha256=sha256), open_extractor("inception_pytorch", path, sha256=sha256)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_grey_images_count_as_rgb(extractor):
    if 3 not in extractor.spec.channels:
        pytest.skip("takes grey images only")
    grey = images_for(extractor)[:, :1]
    assert np.array_equal(extractor.features(grey), extractor.features(grey.repeat(3, 1)))


def test_the_identity_is_json_and_tells_extractors_apart(extractors):
    identities = [e.identity for e in extractors.values()]
    assert json.loads(json.dumps(identities)) == identities
    for name, identity in zip(extractors, identities, strict=True):
        assert identity["name"] == name and len(identity["weights"]) == 64
        assert {"resize", "normalisation", "layer", "library"} <= identity.keys()
    assert len({json.dumps(i, sort_keys=True) for i in identities}) == len(EXTRACTORS)


def test_bad_images_are_refused_in_one_line(extractor):
    u = images_for(extractor)
    for bad, match in (
        (u / 255.0, "must be uint8, not torch.float64"),
        (u.astype(np.int64), "must be uint8"),
        (u[0], r"must be \[n, C, H, W\]"),
        (u[:0], "at least one image"),
        (np.repeat(u[:, :1], 2, 1), "not 2"),
    ):
        with pytest.raises((ValueError, UserError), match=match) as error:
            extractor.features(bad)
        assert "\n" not in str(error.value)


def test_sizes_that_an_extractor_cannot_take_are_the_users_error(extractors):
    with pytest.raises(UserError, match="'digits' takes images of 8×8, not 32×32"):
        extractors["digits"].features(np.zeros((2, 1, 32, 32), np.uint8))
    with pytest.raises(UserError, match="1 channels, not 3"):
        extractors["digits"].features(np.zeros((2, 3, 8, 8), np.uint8))


def test_digits_are_the_shipped_features(extractors):
    u = images_for(extractors["digits"], 5)
    assert np.array_equal(extractors["digits"].features(u), digits.features(u))


def test_logits_only_where_declared(extractor):
    u = images_for(extractor, 2)
    if not extractor.has_logits:
        with pytest.raises(ValueError, match="no class logits"):
            extractor.logits(u)
        return
    f, logits = extractor.features_and_logits(u)
    assert np.array_equal(f, extractor.features(u)) and np.array_equal(logits, extractor.logits(u))
    assert logits.shape == (2, 1008)


def test_lite0_knows_a_daisy():
    # A real photograph through the features and the classifier's own last layer: resize, normalisation, weights.
    from sklearn.datasets import load_sample_image

    photo = load_sample_image("flower.jpg")[:, 107:534]  # the square in the middle
    extractor = open_extractor("lite0")
    logits = extractor.net._fc(torch.from_numpy(extractor.features(photo.transpose(2, 0, 1)[None])))[0]
    assert int(logits.argmax()) == 985  # ImageNet's "daisy"
    small = np.asarray(Image.fromarray(photo).resize((224, 224), Image.Resampling.BICUBIC), np.float32)
    with torch.no_grad():  # the network's own way to its classes, after TensorFlow's (u - 127) / 128
        expected = extractor.net(torch.from_numpy((small - 127) / 128).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_unknown_names_and_needless_weights():
    with pytest.raises(UserError, match="unknown extractor 'inceptoin'; did you mean 'inception'"):
        open_extractor("inceptoin")
    with pytest.raises(UserError, match="ship with the project"):
        open_extractor("digits", "some.pth")


def test_published_addresses_are_those_of_the_libraries():
    import timm
    from pytorch_fid.inception import FID_WEIGHTS_URL
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert EXTRACTORS["inception"].weights.url == URL_INCEPTION_V3
    assert [url.rsplit("/", 1)[1] for url in (URL_INCEPTION_V3, FID_WEIGHTS_URL)] == list(INCEPTION.names)
    cfg = timm.get_pretrained_cfg(dinov2.ARCHITECTURE)
    assert EXTRACTORS["dinov2"].weights.url == cfg.url and cfg.num_classes == 0
