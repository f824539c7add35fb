"""LPIPS against its formula and against the package lpips, with random weights in the published files' format."""

import hashlib
import importlib.util

import pytest
import random_vgg
import torch
from random_vgg import CHANNELS
from torch import nn
from torch.nn import functional

from fewstep import perceptual, weights
from fewstep.errors import SKIPPED, UserError, WeightsMissing
from fewstep.perceptual import lpips
from fewstep.seeds import generator
from fewstep.weights import LPIPS_VGG, find, read_state

READ_AFTER = (2, 5, 9, 13, 17)  # of CHANNELS: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3


def images(n, channels=3, size=16, name="x"):
    return torch.rand(n, channels, size, size, generator=generator("lpips", name)) * 2 - 1


@pytest.fixture(scope="module")
def vgg():
    return random_vgg.weights()


@pytest.fixture
def here(vgg, tmp_path, monkeypatch):
    """A machine that has these weights, and the linear ones of the package lpips; nothing can be downloaded."""
    for name in ("FEWSTEP_CACHE", "TORCH_HOME", "FEWSTEP_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("FEWSTEP_OFFLINE", "1")
    file = tmp_path / "FEWSTEP_WEIGHTS" / perceptual.VGG16.names[0]
    file.parent.mkdir()
    torch.save(vgg, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(perceptual, "VGG16", perceptual.VGG16._replace(sha256=sha256))
    return file


def test_is_a_distance(here):
    distance, x, y = lpips(), images(4), images(4, name="y")
    found = distance(x, y)
    assert found.shape == (4,) and (found > 0).all()
    assert torch.equal(distance(x, x), torch.zeros(4))
    torch.testing.assert_close(distance(y, x), found, rtol=1e-6, atol=0)
    torch.testing.assert_close(distance(x[2:3], y[2:3]), found[2:3], rtol=1e-4, atol=0)  # each pair for itself
    near = distance(x, x + 0.01 * (y - x))
    assert (near < 0.1 * found).all()


def test_is_its_formula(here, vgg):
    """sum_l mean_hw sum_c w_lc (f_lc(x) - f_lc(y))^2, f of unit length over channels, with average pooling."""
    x, y = images(2), images(2, name="y")
    linear = read_state(find(LPIPS_VGG))

    def layers(x):
        h = functional.interpolate(x, size=(224, 224), mode="bilinear", align_corners=False)
        h = (h / 2 + 0.5 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
            [0.229, 0.224, 0.225]
        ).view(3, 1, 1)
        convolutions = [name for name in vgg if name.startswith("features.") and name.endswith("weight")]
        for at, channels in enumerate(CHANNELS, 1):
            if channels == "pool":
                h = functional.avg_pool2d(h, 2)
                continue
            name = convolutions.pop(0)
            h = functional.conv2d(h, vgg[name], vgg[name.replace("weight", "bias")], padding=1).relu()
            if at in READ_AFTER:
                yield h / h.square().sum(1, keepdim=True).sqrt().clamp_min(1e-12)

    expected = 0
    for layer, (f, g) in enumerate(zip(layers(x), layers(y), strict=True)):
        w = linear[f"lin{layer}.model.1.weight"].view(-1)
        expected = expected + torch.einsum("c,bchw->b", w, (f - g) ** 2) / f[0, 0].numel()
    torch.testing.assert_close(lpips()(x, y), expected, rtol=1e-4, atol=1e-7)


def test_agrees_with_the_package(here, vgg):
    """The authors' own module, its maxima replaced by averages, given images of the size that it is used at."""
    package = pytest.importorskip("lpips")
    with torch.random.fork_rng(devices=[]):
        theirs = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for part in theirs.net.children():
        for name, layer in part.named_children():
            if isinstance(layer, nn.MaxPool2d):
                setattr(part, name, nn.AvgPool2d(2, 2))
            elif isinstance(layer, nn.Conv2d):
                layer.load_state_dict({k: vgg[f"features.{name}.{k}"] for k in ("weight", "bias")})
    x, y = (functional.interpolate(images(2, name=name), size=224, mode="bilinear") for name in "xy")
    with torch.no_grad():
        expected = theirs(x, y).flatten()
    distance = perceptual.LPIPS(perceptual._layers(vgg), _linear())
    torch.testing.assert_close(distance(x, y), expected, rtol=1e-4, atol=1e-7)


def _linear():
    linear = read_state(find(LPIPS_VGG))
    return [linear[f"lin{layer}.model.1.weight"] for layer in range(5)]


def test_grey_images_are_repeated_and_gradients_flow(here):
    distance = lpips()
    x, y = images(2, 1, 8).requires_grad_(), images(2, 1, 8, name="y")
    found = distance(x, y)
    torch.testing.assert_close(found, distance(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)), rtol=1e-5, atol=0)
    found.sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in distance.parameters()) and not distance.training
    same = y.clone().requires_grad_()
    distance(same, y).sum().backward()
    assert same.grad.isfinite().all()


def test_building_it_draws_no_random_number(here):
    before = torch.get_rng_state()
    lpips()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(4, 2), (4, 2, 8, 8)])
def test_other_samples_are_refused(here, shape):
    with pytest.raises(UserError, match="images of 1 or 3 channels"):
        lpips()(torch.zeros(shape), torch.zeros(shape))


def test_without_weights_it_says_what_to_put_where(here):
    here.unlink()
    with pytest.raises(WeightsMissing, match=r"vgg16-397923af\.pth .*download\.pytorch\.org.*FEWSTEP_WEIGHTS") as error:
        lpips()
    assert error.value.status == SKIPPED and "\n" not in str(error.value)


def test_without_the_package_it_names_it(here, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsMissing, match="install the Python package lpips"):
        lpips()


def test_weights_of_another_network_are_named(here, monkeypatch):
    torch.save({"features.0.weight": torch.zeros(2, 2)}, here)
    sha256 = hashlib.sha256(here.read_bytes()).hexdigest()
    monkeypatch.setattr(perceptual, "VGG16", perceptual.VGG16._replace(sha256=sha256))
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth holds the weights of another network"):
        lpips()


def test_the_packages_file_is_the_published_one():
    assert weights.resolve(LPIPS_VGG)[1] == LPIPS_VGG.sha256
    shapes = [tuple(w.shape) for w in _linear()]
    assert shapes == [(1, c, 1, 1) for c in (64, 128, 256, 512, 512)]
