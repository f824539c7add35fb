"""ADM as EDM trains it: the published size, and its parts against closed forms."""

import pytest
import torch

from fewstep import config
from fewstep.nets import build, parameters, with_defaults
from fewstep.nets.adm import ADMEmbedding
from fewstep.nets.encoder import encoder_beside

SMALL = {"kind": "adm", "channels": 64, "multipliers": [1, 2], "blocks": 1, "attention": [8], "dropout": 0.0}


@pytest.fixture(autouse=True)
def own_rng():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return build({"kind": "adm", "label_dim": 1000}, (3, 64, 64))


def test_parameters_of_the_published_network(published):
    assert parameters(published) == 295_899_267  # 295.9 M
    with torch.device("meta"):
        assert parameters(build({"kind": "adm"}, (3, 64, 64))) == 295_899_267 - 1000 * 768


def test_a_study_s_defaults_are_the_network_s():
    defaults = with_defaults({"kind": "adm"})
    options = config.ADM(kind="adm").model_dump()
    assert options == {name: list(v) if isinstance(v := defaults[name], tuple) else v for name in options}


def test_attention_stands_after_every_block_of_its_resolutions(published):
    """Heads of 64 channels at 32, 16 and 8 pixels: 384 channels have 6, 576 have 9 and 768 have 12."""

    def heads(blocks):
        return [block.attention.heads if block.attention else 0 for block in blocks]

    assert heads(published.down.blocks) == [0] * 3 + [0, 6, 6, 6] + [0, 9, 9, 9] + [0, 12, 12, 12]
    assert heads(published.up.middle) == [12, 0]
    assert heads(published.up.blocks) == [12] * 4 + [0] + [9] * 4 + [0] + [6] * 4 + [0] + [0] * 4


def test_norms_and_shortcuts_are_the_published_ones(published):
    norms = [module for module in published.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert {(norm.num_groups, norm.eps) for norm in norms} == {(32, 1e-5)}
    # A block that only changes the resolution has no convolution on its shortcut.
    for block in (*published.down.blocks, *published.up.blocks):
        changes = block.conv1.in_channels != block.conv1.out_channels
        assert isinstance(block.skip, torch.nn.Conv2d) == changes


def test_blocks_start_as_identities():
    net = build(SMALL, (3, 8, 8)).double()
    h = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    block = net.down.blocks[0]
    assert block.attention is not None
    torch.testing.assert_close(block(h, torch.ones(2, 256, dtype=torch.float64)), h, rtol=0, atol=0)


def test_a_label_joins_after_the_layers():
    """silu(mlp(waves) + W label), with W of unit Gaussians; the cosines stand first."""
    embed, c, x = ADMEmbedding(8, 512, 4, 9), torch.tensor([0.3, 2.0]), torch.zeros(2, 1)
    frequencies = 10000 ** (-torch.arange(4) / 4)
    waves = torch.cat([(c[:, None] * frequencies).cos(), (c[:, None] * frequencies).sin()], 1)
    label = torch.eye(4)[1:3]
    expected = torch.nn.functional.silu(embed.mlp(waves) + embed.label.weight.T[1:3])
    torch.testing.assert_close(embed(x, c, label), expected)
    assert embed.label.weight.std().item() == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(embed(x, c, label, torch.ones(2, 9)), expected)  # an augmentation starts at zero
    torch.testing.assert_close(embed(x, c), embed(x, c, torch.zeros(2, 4)))


def test_the_first_level_may_be_wider_than_the_embedding():
    net = build({**SMALL, "channels": 32, "multipliers": [2, 4]}, (3, 8, 8))
    assert net.down.stem.out_channels == 64 and net.embed.mlp[0].in_features == 32
    assert net(torch.zeros(1, 3, 8, 8), torch.ones(1)).shape == (1, 3, 8, 8)


def test_maps_further_outputs_and_the_bottleneck():
    net, x, found = build({**SMALL, "maps": 2, "out_channels": 5}, (3, 8, 8)), torch.ones(2, 3, 8, 8), []
    net.bottleneck.register_forward_hook(lambda module, args, out: found.append(tuple(out.shape)))
    assert net(x, torch.ones(2), maps=x[:, :2]).shape == (2, 5, 8, 8)
    assert found == [(2, 128, 4, 4)]


def test_an_encoder_beside_it_has_a_quarter_of_its_channels():
    encoder = encoder_beside(SMALL, (3, 8, 8), code_dim=20, noise=True)
    y, noise = encoder(torch.zeros(2, 3, 8, 8))
    assert encoder.down.stem.out_channels == 16 and encoder.down.blocks[0].adaptive
    assert y.shape == (2, 20) and noise.shape == (2, 6, 8, 8) and not noise.any()
