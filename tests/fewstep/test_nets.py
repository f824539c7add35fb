"""The nets keep their common call's promises: shapes, batch independence, conditions, full gradients, exact reload."""

import pytest
import torch

from fewstep.nets import build, parameters
from fewstep.nets.embedding import FourierEmbedding, PositionalEmbedding
from fewstep.nets.encoder import encoder_beside

SMALL = {"kind": "unet", "channels": 8}
PUBLISHED = {"blocks": 1, "attention": [4], "dropout": 0.0}
NCSNPP = {"embedding": "fourier", "encoder": "residual", "resample_filter": [1, 3, 3, 1]}
CASES = {
    "mlp": ({"kind": "mlp", "width": 32}, (2,)),
    "mlp-1d": ({"kind": "mlp", "width": 20, "embedding_channels": 10}, (1,)),
    "mlp-image": ({"kind": "mlp", "width": 16, "depth": 2, "embedding": "fourier"}, (1, 4, 4)),
    "unet": (SMALL, (1, 8, 8)),
    "unet-attention": (
        {**SMALL, "attention": [8, 4], "middle_attention": True, "heads": 2, "embedding": "fourier"},
        (1, 8, 8),
    ),
    "ddpmpp": ({"kind": "song", "channels": 8, "multipliers": [1, 2], **PUBLISHED}, (1, 8, 8)),
    "ncsnpp": ({"kind": "song", "channels": 4, "multipliers": [2, 2, 2], **NCSNPP, **PUBLISHED}, (3, 16, 16)),
    "ddpm": ({"kind": "ddpm", "channels": 8, "multipliers": [1, 2], **PUBLISHED}, (3, 8, 8)),
    "adm": ({"kind": "adm", "channels": 32, "multipliers": [1, 4], **PUBLISHED}, (3, 8, 8)),
    "unet-32": ({**SMALL, "multipliers": [2, 2, 2], "blocks": 2, "attention": [16], "adaptive": False}, (3, 32, 32)),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    return request.param


def make(spec, shape, **options):
    """A net whose zero-initialised layers are random too, so that every path shows in the output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build({**spec, **options}, shape)
        with torch.no_grad():
            for p in net.parameters():
                if not p.any():
                    p.normal_(0, 0.1)
    return net


def inputs(shape, batch=5):
    g = torch.Generator().manual_seed(1)
    return torch.randn(batch, *shape, generator=g), torch.rand(batch, generator=g)


def test_shape_and_channels_last(case):
    _, shape = case
    net, (x, c) = make(*case), inputs(shape)
    y = net(x, c)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    assert net(x[:1], c[:1]).shape == (1, *shape)
    if len(shape) == 3:
        net = net.to(memory_format=torch.channels_last)
        torch.testing.assert_close(net(x.to(memory_format=torch.channels_last), c), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.double()(x.double(), c.double()).float(), y, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch", [2, 3, 5, 7, 16, 31, 37])
@torch.no_grad()
def test_permuted_batch_is_bit_equal(case, batch):
    _, shape = case
    net, (x, c) = make(*case, label_dim=3, extra_dim=2), inputs(shape, batch)
    label, extra = torch.eye(3)[torch.arange(batch) % 3], torch.linspace(-1, 1, 2 * batch).reshape(batch, 2)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(2))
    assert torch.equal(net(x[order], c[order], label[order], extra[order]), net(x, c, label, extra)[order])


@torch.no_grad()
def test_one_time_for_all_equals_a_batch_of_it(case):
    net, (x, _) = make(*case), inputs(case[1])
    assert torch.equal(net(x, torch.tensor(0.3)), net(x, torch.full((len(x),), 0.3)))


@torch.no_grad()
def test_conditions_and_time_change_the_output(case):
    _, shape = case
    net, (x, c) = make(*case, label_dim=3, extra_dim=2), inputs(shape)
    labels, extra = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])], torch.ones(5, 2)
    outputs = [net(x, c), net(x, c + 0.1), net(x, c, labels), net(x, c, labels.roll(1, 1)), net(x, c, None, extra)]
    for i, a in enumerate(outputs):
        for b in outputs[:i]:
            assert (a - b).abs().amax() > 1e-5


def test_a_condition_gets_a_gradient_as_soon_as_the_output_moves(case):
    """The output starts at zero; with it off zero, what makes the condition is told where to go in the first step."""
    spec, shape = case
    net, (x, c) = build({**spec, "extra_dim": 2}, shape), inputs(shape)
    for layer in [module for module in net.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]:
        if not layer.weight.any():
            torch.nn.init.normal_(layer.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    extra = torch.ones(5, 2, requires_grad=True)
    net(x, c, extra=extra).square().sum().backward()
    assert (extra.grad.abs().sum(1) > 0).all()


def test_conditions_a_net_lacks_or_of_wrong_width_are_refused(case):
    (x, c), net = inputs(case[1]), build(*case)
    for name in ("label", "extra", "augment"):
        with pytest.raises(ValueError, match=f"without {name}_dim"):
            net(x, c, **{name: torch.ones(5, 3)})
    with pytest.raises(ValueError, match=r"label must be \(5, 3\)"):
        build({**case[0], "label_dim": 3}, case[1])(x, c, torch.ones(5, 4))


@torch.no_grad()
def test_an_image_left_as_it_was_is_no_augmentation(case):
    net, (x, c) = make(*case, augment_dim=9), inputs(case[1])
    torch.testing.assert_close(net(x, c, augment=torch.zeros(5, 9)), net(x, c), rtol=0, atol=1e-6)
    assert (net(x, c, augment=torch.ones(5, 9)) - net(x, c)).abs().amax() > 1e-5


def test_an_encoder_beside_the_net_takes_its_options(case):
    spec, shape = case
    encoder, (x, _) = encoder_beside(spec, shape, code_dim=6, noise=True), inputs(shape)
    y, noise = encoder(x)
    assert y.shape == (5, 6) and noise.flatten(1).shape == (5, 2 * x[0].numel()) and not noise.any()


def test_unknown_keys_are_named():
    with pytest.raises(ValueError, match="'resnet'; allowed: mlp, unet"):
        build({"kind": "resnet"}, (2,))
    with pytest.raises(ValueError, match=r"widht; allowed: width, depth"):
        build({"kind": "mlp", "widht": 3}, (2,))
    with pytest.raises(ValueError, match="unknown embedding 'sine'; allowed: positional, fourier"):
        build({"kind": "mlp", "embedding": "sine"}, (2,))


def test_a_shape_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match=r"3 levels cannot halve samples of shape \(1, 6, 8\)"):
        build({"kind": "unet", "multipliers": [1, 1, 1]}, (1, 6, 8))


def test_gradient_reaches_every_parameter(case):
    _, shape = case
    net, (x, c) = make(*case, label_dim=3, extra_dim=2, augment_dim=4), inputs(shape)
    condition = {"label": torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])], "extra": torch.rand(5, 2)}
    net(x, c, **condition, augment=torch.rand(5, 4)).square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_reload_is_bit_equal(case, tmp_path):
    net, (x, c) = make(*case), inputs(case[1])
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other = build(*case)
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert torch.equal(other(x, c), net(x, c))


def test_output_starts_at_zero_and_forward_leaves_the_global_rng_alone(case):
    net, (x, c) = build(*case), inputs(case[1])
    before = torch.random.get_rng_state()
    assert not net(x, c).any()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_default_sizes():
    assert 100_000 < parameters(build({"kind": "unet"}, (1, 8, 8))) < 200_000
    assert 30_000 < parameters(build({"kind": "mlp"}, (2,))) < 60_000


def test_size_of_the_cifar_network():
    # EDM's DDPM++ for CIFAR-10 without its augmentation input has 55,732,739 parameters; RNE's decoder is the same net.
    spec = {"kind": "unet", "channels": 128, "multipliers": [2, 2, 2], "blocks": 4, "attention": [16]}
    with torch.device("meta"):
        net = build({**spec, "middle_attention": True, "adaptive": False, "dropout": 0.13}, (3, 32, 32))
    assert parameters(net) == 55_732_739


def test_dropout_acts_in_training_only():
    net, (x, c) = make({**SMALL, "dropout": 0.5}, (1, 8, 8)), inputs((1, 8, 8))
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(net(x, c), net(x, c))
    net.eval()
    assert torch.equal(net(x, c), net(x, c))


def test_embeddings():
    c = torch.tensor([0.0, 0.5, 3.0])
    e = PositionalEmbedding(6, max_positions=100, endpoint=True)(c)
    w = torch.tensor([1, 0.1, 0.01])
    torch.testing.assert_close(e, torch.cat([(c[:, None] * w).cos(), (c[:, None] * w).sin()], 1))
    state = torch.random.get_rng_state()
    a, b = FourierEmbedding(8), FourierEmbedding(8)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(a(c), b(c)) and "frequencies" in a.state_dict()
    drawn = FourierEmbedding(8, generator=torch.Generator().manual_seed(9))
    assert not torch.equal(a(c), drawn(c))
    with pytest.raises(ValueError, match="even number"):
        PositionalEmbedding(5)
