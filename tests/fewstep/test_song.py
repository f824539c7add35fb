"""EDM's DDPM++ and NCSN++: the published sizes, and each part against a closed form."""

import pytest
import torch
import torch.nn.functional as F

from fewstep import config
from fewstep.lora import add
from fewstep.nets import build, parameters, with_defaults
from fewstep.nets.encoder import UNetEncoder, encoder_beside
from fewstep.nets.resample import Resample
from fewstep.nets.song import Halved, ResidualDown, SongEmbedding

DDPMPP = {"kind": "song"}
NCSNPP = {"kind": "song", "embedding": "fourier", "encoder": "residual", "resample_filter": [1, 3, 3, 1]}
SMALL = {"channels": 8, "multipliers": [1, 2], "blocks": 2, "attention": [8], "dropout": 0.0}
BINOMIAL = (1, 3, 3, 1)


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(autouse=True)
def own_rng():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# Sizes: counted on EDM's own classes with the arguments of its train.py; its paper's are 55.7 M and 61.8 M.


@pytest.mark.parametrize(
    "spec, side, conditions, expected",
    [
        (DDPMPP, 32, {}, 55_732_739),
        (DDPMPP, 32, {"augment_dim": 9}, 55_733_891),
        (DDPMPP, 32, {"label_dim": 10, "augment_dim": 9}, 55_735_299),
        (NCSNPP, 32, {}, 56_395_523),
        (NCSNPP, 32, {"label_dim": 10, "augment_dim": 9}, 56_400_643),
        ({**DDPMPP, "multipliers": [1, 2, 2, 2]}, 64, {}, 61_804_419),
        ({**DDPMPP, "multipliers": [1, 2, 2, 2]}, 64, {"augment_dim": 9}, 61_805_571),
        ({**NCSNPP, "multipliers": [1, 2, 2, 2]}, 64, {"augment_dim": 9}, 62_761_091),
    ],
)
def test_parameters_of_the_published_networks(spec, side, conditions, expected):
    with torch.device("meta"):
        assert parameters(build({**spec, **conditions}, (3, side, side))) == expected


def test_a_study_s_defaults_are_the_network_s():
    defaults = with_defaults(DDPMPP)
    options = config.SongUNet(kind="song").model_dump()
    assert options == {name: list(v) if isinstance(v := defaults[name], tuple) else v for name in options}


# Resampling.


def test_the_binomial_filter_is_bilinear_inside():
    """Doubling is F.interpolate's bilinear, halving its antialiased one; the border, which sees zeros, differs."""
    x = images(2, 3, 8, 6)
    up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    down = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False, antialias=True)
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(Resample("up", BINOMIAL).double()(x)[inside], up[inside])
    torch.testing.assert_close(Resample("down", BINOMIAL).double()(x)[inside], down[inside])


def test_the_border_sees_zeros():
    x = torch.ones(1, 1, 4, 4)
    down, up = Resample("down", BINOMIAL)(x), Resample("up", BINOMIAL)(x)
    assert down[0, 0, 0, 0] == (7 / 8) ** 2 and up[0, 0, 0, 0] == (3 / 4) ** 2 and up[0, 0, 1, 1] == 1


@pytest.mark.parametrize("weights", [(1, 1), BINOMIAL, (1, 2, 3, 3, 2, 1)])
def test_doubling_is_four_times_the_adjoint_of_halving(weights):
    x, y = images(1, 2, 8, 8), images(1, 2, 4, 4)
    down, up = Resample("down", weights).double()(x), Resample("up", weights).double()(y)
    torch.testing.assert_close(4 * (down * y).sum(), (x * up).sum())


def test_a_box_is_the_same_by_any_filter():
    x = images(1, 2, 4, 4)
    for how in ("down", "up"):
        torch.testing.assert_close(Resample(how, (2, 2)).double()(x), Resample(how)(x))
        general = Resample(how, (1, 2, 2, 1)).double()  # a general kernel, made a box
        general.kernel = F.pad(torch.full((1, 1, 2, 2), 0.25 if how == "down" else 1.0), [1] * 4).double()
        torch.testing.assert_close(general(x), Resample(how)(x))


def test_an_odd_filter_is_refused():
    with pytest.raises(ValueError, match="even number of weights, not 3"):
        Resample("down", (1, 2, 1))


def test_a_fused_halving_is_the_convolution_of_a_larger_image():
    x, halved = images(2, 3, 8, 8), Halved(3, 4, BINOMIAL).double()
    wide = F.conv2d(F.pad(x, [2] * 4), halved.conv.weight, halved.conv.bias)  # reaches one pixel over the border
    f = torch.tensor(BINOMIAL).double() / 8
    patches = wide.unfold(2, 4, 2).unfold(3, 4, 2)  # [2, 4, 4, 4, 4, 4]: 4×4 pixels around every second one
    torch.testing.assert_close(halved(x), torch.einsum("bchwij,i,j->bchw", patches, f, f))


# Blocks and embeddings.


def test_blocks_start_as_scaled_identities():
    """The second convolution and the attention's output are zero, so what is left is the sum's scale, sqrt(1/2)."""
    net = build({**DDPMPP, **SMALL}, (3, 8, 8)).double()
    h, embedding = images(2, 16, 4, 4), images(2, 32)
    assert [bool(block.attention) for block in net.up.middle] == [True, False]
    torch.testing.assert_close(net.up.middle[0](h, embedding), h / 2)  # two sums
    torch.testing.assert_close(net.up.middle[1](h, embedding), h * 0.5**0.5)
    assert [bool(block.attention) for block in net.down.blocks] == [True, True, False, False, False]
    assert [bool(block.attention) for block in net.up.blocks] == [False] * 6 + [True]  # the last at 8 pixels
    assert all(module.heads == 1 for module in net.modules() if hasattr(module, "heads"))


def test_norms_have_the_published_groups():
    with torch.device("meta"):
        net = build(DDPMPP, (3, 32, 32))
    norms = [module for module in net.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert {(norm.num_channels, norm.num_groups, norm.eps) for norm in norms} == {
        (c, 32, 1e-6) for c in (128, 256, 384, 512)
    }


def test_sines_stand_before_cosines():
    embed, c = SongEmbedding(8, 16, "positional", 0, 0), torch.tensor([0.0, 0.3, -2.0])
    embed.mlp = torch.nn.Identity()
    frequencies = 10000 ** (-torch.arange(4) / 3)  # the last one is 1/10000 itself
    expected = torch.cat([(c[:, None] * frequencies).sin(), (c[:, None] * frequencies).cos()], 1)
    torch.testing.assert_close(embed(torch.zeros(3, 1), c), expected)
    fourier = SongEmbedding(8, 16, "fourier", 0, 0)
    fourier.mlp = torch.nn.Identity()
    waves = fourier(torch.zeros(3, 1), c)
    assert waves.shape == (3, 16) and torch.equal(waves[0], torch.tensor([0.0] * 8 + [1.0] * 8))


def test_a_label_is_scaled_and_no_label_leaves_its_bias():
    embed, c, x = SongEmbedding(8, 16, "positional", 4, 0), torch.tensor([0.3]), torch.zeros(1, 1)
    embed.mlp = torch.nn.Identity()
    torch.nn.init.constant_(embed.label.bias, 0.5)
    label = torch.eye(4)[2:3]
    nothing, third = embed(x, c), embed(x, c, label)
    torch.testing.assert_close(third - nothing, 2 * embed.label.weight[:, 2][None])  # sqrt(4) W e_3
    torch.testing.assert_close(nothing, embed(x, c, torch.zeros(1, 4)))
    embed.label_dim = 0
    torch.testing.assert_close(nothing - embed(x, c), torch.full((1, 8), 0.5))


def test_the_first_weights_are_xavier_s():
    net = build({**DDPMPP, "channels": 32, "multipliers": [2, 2], "blocks": 1}, (3, 32, 32))
    conv, qkv = net.down.blocks[0].conv1.weight, net.up.middle[0].attention.qkv.weight
    assert conv.abs().max().item() == pytest.approx((6 / (9 * (32 + 64))) ** 0.5, rel=1e-2)
    assert qkv.abs().max().item() == pytest.approx((0.2 * 6 / (64 + 3 * 64)) ** 0.5, rel=1e-2)
    biases = [p for name, p in net.named_parameters() if name.endswith("bias") and "norm" not in name]
    assert not any(bias.any() for bias in biases)


# The residual encoder.


def test_the_input_comes_down_beside_the_states():
    """With all else zero, a halving leaves Halved(input) / sqrt(2), and the next one halves that."""
    net = build({**NCSNPP, **SMALL, "multipliers": [1, 1, 1], "blocks": 1, "attention": []}, (3, 16, 16)).double()
    assert isinstance(net.down, ResidualDown)
    for module in (net.down.stem, net.down.blocks):
        for p in module.parameters():
            torch.nn.init.zeros_(p)
    x = images(2, 3, 16, 16)
    states = net.down(x, images(2, 32))
    first = net.down.residuals[0](x) * 0.5**0.5
    second = net.down.residuals[1](first) * 0.5**0.5
    assert [tuple(s.shape[1:]) for s in states] == [(8, 16, 16)] * 2 + [(8, 8, 8)] * 2 + [(8, 4, 4)] * 2
    torch.testing.assert_close(states[2], first)
    torch.testing.assert_close(states[4], second)
    torch.testing.assert_close(states[5], second * 0.5**0.5)


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="unknown encoder 'skip'; allowed: standard, residual"):
        build({**DDPMPP, "encoder": "skip"}, (3, 8, 8))
    with pytest.raises(ValueError, match="unknown embedding 'sine'; allowed: positional, fourier"):
        build({**DDPMPP, "embedding": "sine"}, (3, 8, 8))
    with pytest.raises(ValueError, match=r"3 levels cannot halve samples of shape \(3, 6, 8\)"):
        build(DDPMPP, (3, 6, 8))


# What goes beside it.


@pytest.mark.parametrize("spec", [DDPMPP, NCSNPP], ids=["ddpmpp", "ncsnpp"])
def test_maps_further_outputs_and_the_bottleneck(spec):
    net, x = build({**spec, **SMALL, "maps": 2, "out_channels": 5}, (3, 8, 8)), images(2, 3, 8, 8).float()
    found = []
    net.bottleneck.register_forward_hook(lambda module, args, out: found.append(tuple(out.shape)))
    assert net(x, torch.ones(2), maps=x[:, :2]).shape == (2, 5, 8, 8)
    assert found == [(2, 16, 4, 4)]


def test_low_rank_adaptation_reaches_every_layer():
    net = build({**NCSNPP, **SMALL, "label_dim": 3}, (3, 8, 8))
    share = add(net, 1, torch.Generator().manual_seed(0))
    x = images(2, 3, 8, 8).float()
    for name, B in net.named_parameters():
        if name.endswith(".B"):
            torch.nn.init.normal_(B, generator=torch.Generator().manual_seed(1))
    net(x, torch.ones(2), torch.eye(3)[:2]).square().sum().backward()
    trained = [p for p in net.parameters() if p.requires_grad]
    assert 0 < share < 0.5 and trained and all(p.grad is not None and p.grad.any() for p in trained)


def test_an_encoder_beside_it_is_that_of_the_same_unet():
    """Sizes of arXiv 2409.17487, §4.1, which is about this network."""
    for side, multipliers, millions in ((32, [2, 2, 2], 0.685), (64, [1, 2, 2, 2], 0.755)):
        encoder = encoder_beside({**DDPMPP, "multipliers": multipliers}, (3, side, side), code_dim=20)
        assert isinstance(encoder, UNetEncoder) and round(parameters(encoder.down) / 1e6, 3) == millions
