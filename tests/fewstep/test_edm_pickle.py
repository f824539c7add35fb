"""EDM's pickles: the right tensors and options, and not one line of their code run."""

import os
import pickle
import sys
import types

import pytest
import torch
from edm_pickles import Writer, persistent, save, stand_ins
from torch import nn

from fewstep import pretrained
from fewstep.errors import CheckpointError, UserError
from fewstep.model import build_model
from fewstep.pretrained.edm import read
from fewstep.pretrained.edm_names import renamed


@pytest.fixture
def flag(tmp_path):
    return tmp_path / "flag"


@pytest.fixture
def writer(monkeypatch, flag):
    """Writes networks whose source, were it run, would write `flag`."""
    for name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    return Writer(persistent(flag))


def fits(checkpoint):
    """The model with the checkpoint's weights; every tensor has its place and every place its tensor."""
    with torch.random.fork_rng(devices=[]):
        model = build_model(checkpoint.card)
    model.net.load_state_dict(checkpoint.weights)
    return model.eval()


# What is read.


def test_the_stand_in_runs_its_source_when_it_is_unpickled_the_plain_way(tmp_path, writer, flag):
    pickle.loads(save(tmp_path, writer.model(writer.song())).read_bytes())
    assert flag.exists()


def test_options_come_from_the_arguments_and_no_source_is_run(tmp_path, writer, flag):
    loss = writer.Persistent("EDMLoss", P_mean=-1.2, P_std=1.2, sigma_data=0.5)
    path = save(tmp_path, writer.model(writer.song(label=5, augment=9), label_dim=5), loss_fn=loss)
    checkpoint = read(path)
    assert checkpoint.card == {
        "path": "edm",
        "parametrisation": "denoiser",
        "sigma_data": 0.5,
        "net": {
            **{"kind": "song", "channels": 4, "multipliers": [1, 2], "blocks": 1, "attention": [4], "dropout": 0.13},
            **{"embedding": "positional", "embedding_multiplier": 4, "encoder": "standard", "resample_filter": [1, 1]},
            **{"label_dim": 5, "augment_dim": 9},
        },
        "shape": [3, 4, 4],
    }
    fits(checkpoint)
    assert fits(pretrained.load(str(path), None, (3, 4, 4), 5)) and not flag.exists()


def test_tensors_get_their_places(tmp_path, writer, flag):
    net = writer.song(label=5, augment=9)
    weights = read(save(tmp_path, writer.model(net))).weights
    for ours, theirs in {
        "embed.label.weight": net.map_label.weight,
        "embed.label.bias": net.map_label.bias,
        "embed.augment.weight": net.map_augment.weight,
        "embed.mlp.0.weight": net.map_layer0.weight,
        "embed.mlp.2.bias": net.map_layer1.bias,
        "down.stem.weight": net.enc["4x4_conv"].weight,
        "down.blocks.0.norm1.weight": net.enc["4x4_block0"].norm0.weight,
        "down.blocks.0.attention.norm.bias": net.enc["4x4_block0"].norm2.bias,
        "down.blocks.0.attention.out.weight": net.enc["4x4_block0"].proj.weight,
        "down.blocks.1.skip.weight": net.enc["2x2_down"].skip.weight,
        "down.blocks.2.conv2.bias": net.enc["2x2_block0"].conv1.bias,
        "up.middle.0.affine.weight": net.dec["2x2_in0"].affine.weight,
        "up.middle.1.norm2.weight": net.dec["2x2_in1"].norm1.weight,
        "up.blocks.1.conv1.weight": net.dec["2x2_block1"].conv0.weight,
        "up.blocks.2.conv1.weight": net.dec["4x4_up"].conv0.weight,
        "up.blocks.4.skip.bias": net.dec["4x4_block1"].skip.bias,
        "up.out_norm.weight": net.dec["4x4_aux_norm"].weight,
        "up.out.weight": net.dec["4x4_aux_conv"].weight,
    }.items():
        assert torch.equal(weights[ours], theirs), ours
    assert len(weights) == sum(1 for _ in net.parameters()) and not flag.exists()


@torch.no_grad()
def attended(block, heads, h, eps, skip_scale):
    """Self-attention by the published formula; rows of `qkv` go by head, channel and then query, key, value."""
    c, groups = h.shape[1], max(1, min(32, h.shape[1] // 4))
    normed = nn.functional.group_norm(h, groups, block.norm2.weight, block.norm2.bias, eps).flatten(2)
    rows = torch.einsum("oc,bcn->bon", block.qkv.weight[:, :, 0, 0], normed) + block.qkv.bias[:, None]
    a = torch.empty_like(normed)
    for head in range(heads):
        channels = torch.arange(c // heads) + head * (c // heads)
        q, k, v = (rows[:, 3 * channels + i] for i in range(3))
        a[:, channels] = torch.einsum(
            "bqk,bck->bcq", (torch.einsum("bcq,bck->bqk", q, k) / (c // heads) ** 0.5).softmax(2), v
        )
    out = torch.einsum("oc,bcn->bon", block.proj.weight[:, :, 0, 0], a) + block.proj.bias[:, None]
    return (h + out.reshape(h.shape)) * skip_scale


@pytest.mark.parametrize("kind, heads, eps, skip_scale", [("song", 1, 1e-6, 0.5**0.5), ("adm", 2, 1e-5, 1.0)])
def test_queries_keys_and_values_are_told_apart(tmp_path, writer, kind, heads, eps, skip_scale):
    net = getattr(writer, kind)()
    ours = fits(read(save(tmp_path, writer.model(net)))).net.up.middle[0].attention.double()
    h = torch.randn(2, ours.norm.num_channels, 2, 2, generator=writer.rng, dtype=torch.float64)
    assert ours.heads == heads
    torch.testing.assert_close(ours(h), attended(net.dec["2x2_in0"].double(), heads, h, eps, skip_scale))


def test_ncsnpp_keeps_its_frequencies_and_its_residual_convolutions(tmp_path, writer, flag):
    net = writer.ncsnpp()
    checkpoint = read(save(tmp_path, writer.model(net)))
    options = {"embedding": "fourier", "encoder": "residual", "resample_filter": [1, 3, 3, 1], "dropout": 0.1}
    assert checkpoint.card["net"].items() >= options.items()  # EDM's default where an argument was not given
    ours = fits(checkpoint).net
    torch.testing.assert_close(ours.embed.time.frequencies, 2 * torch.pi * net.map_noise.freqs)
    assert torch.equal(ours.down.residuals[0].conv.weight, net.enc["2x2_aux_residual"].weight)
    assert torch.equal(ours.down.blocks[2].conv1.weight, net.enc["2x2_block0"].conv0.weight) and not flag.exists()


def test_adm(tmp_path, writer, flag):
    net = writer.adm()
    checkpoint = read(save(tmp_path, writer.model(net, label_dim=5)))
    assert checkpoint.card["net"] == {
        **{"kind": "adm", "channels": 64, "multipliers": [1, 2], "blocks": 1, "attention": [2]},
        **{"embedding_multiplier": 4, "dropout": 0.1, "label_dim": 5, "augment_dim": 9},
    }
    ours = fits(checkpoint).net
    assert torch.equal(ours.embed.label.weight, net.map_label.weight)
    assert torch.equal(ours.up.out.weight, net.out_conv.weight)
    assert torch.equal(ours.up.out_norm.bias, net.out_norm.bias) and not flag.exists()


def test_names_do_not_depend_on_their_order_or_a_prefix(writer):
    net = writer.song()
    state = {name: tensor for name, tensor in net.state_dict().items() if tensor is not None}
    mixed = {f"module.model.{name}": state[name] for name in reversed(state)}
    a, b = renamed(state), renamed(mixed)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(UserError, match=r"enc\.4x4_aux_down\.weight is no tensor"):
        renamed({**state, "enc.4x4_aux_down.weight": torch.zeros(1)})


# Preconditionings.


def test_vp_is_a_prediction_of_the_noise(tmp_path, writer):
    """D(x; sigma) = x - sigma F(x / sqrt(1 + sigma^2), 999 t) with t from the schedule's closed form."""
    schedule = {"beta_d": 19.9, "beta_min": 0.1, "M": 1000}
    path = save(tmp_path, writer.model(writer.song(), "VPPrecond", **schedule))
    checkpoint = read(path)
    assert checkpoint.card.items() >= {"path": "vp", "parametrisation": "eps"}.items()
    model, sigma = fits(checkpoint), torch.tensor([0.3, 20.0])
    t = ((0.1**2 + 2 * 19.9 * (1 + sigma**2).log()).sqrt() - 0.1) / 19.9
    x, c_in = torch.randn(2, 3, 4, 4, generator=writer.rng), (1 / (1 + sigma**2).sqrt())[:, None, None, None]
    with torch.no_grad():
        expected = x - sigma[:, None, None, None] * model.net(c_in * x, 999 * t)
        torch.testing.assert_close(model(c_in * x, t).x0, expected, rtol=1e-3, atol=1e-3)
    path = save(tmp_path, writer.model(writer.song(), "VPPrecond", **schedule | {"beta_d": 10}))
    with pytest.raises(UserError, match="is not the path vp"):
        read(path)


def test_mac_s_gamma_network_sees_every_pixel_s_noise_level(tmp_path, writer, flag):
    """Formulas of arXiv 2404.14161's code for one gamma of every pixel, sigma being the scalar that it is told."""
    checkpoint = read(save(tmp_path, writer.model(writer.song(maps=3), "EDMgammaPrecond")))
    assert checkpoint.card["multidimensional"] is True
    model, x = fits(checkpoint), torch.randn(2, 3, 4, 4, generator=writer.rng)
    gamma = torch.rand(2, 3, 4, 4, generator=writer.rng) + 0.1
    c_skip, c_in = 0.25 / (gamma**2 + 0.25), 1 / (gamma**2 + 0.25).sqrt()
    with torch.no_grad():
        told = gamma.flatten(1).mean(1).log() / 4
        F = model.net(c_in * x, told, maps=gamma.log() / 4)
        torch.testing.assert_close(model(x, gamma).x0, c_skip * x + 0.5 * gamma * c_in * F, rtol=1e-4, atol=1e-4)
    assert not flag.exists()


class Generator(nn.Module):
    """MAC's: the network V and the coefficient's network C."""

    def __init__(self, V, C):
        super().__init__()
        self.V, self.C = V, C


def test_mac_s_generator_gives_its_network(tmp_path, writer, flag, monkeypatch):
    module = types.ModuleType("training_ito.generator")
    module.Generator = Generator
    monkeypatch.setitem(sys.modules, "training_ito", types.ModuleType("training_ito"))
    monkeypatch.setitem(sys.modules, "training_ito.generator", module)
    monkeypatch.setattr(Generator, "__module__", "training_ito.generator")
    net = writer.song()
    generator = Generator(writer.model(net), writer.linear(3, 3))
    weights = read(save(tmp_path, generator, "G_ema")).weights
    assert torch.equal(weights["down.stem.weight"], net.enc["4x4_conv"].weight) and not flag.exists()


# What is refused: one line, and nothing was run.


def refused(path, match, error=UserError):
    with pytest.raises(error, match=match) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    "kind, why", [("VEPrecond", "unscaled"), ("iDDPMPrecond", "1000 noise levels"), ("MyPrecond", "known")]
)
def test_other_preconditionings_are_refused(tmp_path, writer, kind, why):
    refused(save(tmp_path, writer.model(writer.song(), kind)), f"{kind} has no counterpart.*{why}")


@pytest.mark.parametrize(
    "changed, match",
    [
        ({"decoder_type": "skip"}, "SongUNet with decoder_type = 'skip' is not known"),
        ({"encoder_type": "skip"}, "encoder 'skip' is not known"),
        ({"channel_mult_noise": 2}, "channel_mult_noise = 2 is not known"),
        ({"flash": True}, "flash = True is not known"),
        ({"in_channels": 6}, "from 6 to 3 channels is not known"),
    ],
)
def test_options_that_our_networks_lack_are_named(tmp_path, writer, changed, match):
    refused(save(tmp_path, writer.model(writer.song(**changed))), match)


def test_another_layout_is_refused(tmp_path, writer):
    refused(save(tmp_path, writer.model(writer.song(), sigma_data=None)), "not in EDM's layout", CheckpointError)
    cyclic = writer.song()
    cyclic.enc._modules = {"again": nn.ModuleDict(), "list": [cyclic]}
    cyclic.enc._modules["again"]._modules = cyclic.enc._modules
    refused(save(tmp_path, writer.model(cyclic)), "not in EDM's layout", CheckpointError)


def test_another_network_or_none_is_refused(tmp_path, writer):
    refused(save(tmp_path, writer.model(writer.Persistent("StyleGAN"))), "holds StyleGAN as its network")
    refused(save(tmp_path, writer.model(writer.song()), "net"), "under `ema`; there is net, loss_fn, dataset_kwargs")


class Evil:
    """Unpickled, it calls `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_code_is_refused_by_its_name(tmp_path, writer, flag):
    path = tmp_path / "evil.pkl"
    command = f"echo run > {flag}"
    path.write_bytes(b"\x80\x04cos\nsystem\n(V" + command.encode() + b"\ntR.")
    with pytest.raises(UserError, match=r"asks for os\.system"):
        pretrained.load(str(path), None, (3, 4, 4), 0)
    assert not flag.exists()
    pickle.loads(path.read_bytes())
    assert flag.exists()  # it bites


@pytest.mark.parametrize("where", ["beside", "in the state", "in the source", "as a tensor"])
def test_code_is_refused_wherever_it_hides(tmp_path, writer, flag, where):
    evil, model = Evil(eval, f"open({str(flag)!r}, 'w').close()"), writer.model(writer.song())
    if where == "in the state":
        model.model.enc["4x4_conv"].hidden = evil
    elif where == "in the source":
        model.model.class_name = evil
    elif where == "as a tensor":
        model.model.enc["4x4_conv"]._buffers["resample_filter"] = evil
    path = save(tmp_path, model, **({"augment_pipe": evil} if where == "beside" else {}))
    refused(path, "asks for builtins.eval")
    assert not flag.exists()
    pickle.loads(path.read_bytes())
    assert flag.exists()


@pytest.mark.parametrize("name", ["getattr", "print", "__import__", "exec"])
def test_no_other_builtin_is_known(tmp_path, name):
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"ema": Evil(getattr(__builtins__, name, None) or __builtins__[name], "os")}))
    refused(path, f"asks for builtins.{name}")


def test_code_in_a_storage_s_bytes_is_not_run_either(tmp_path, flag):
    """A storage is a file of torch's within the pickle; torch reads it with weights_only."""
    inner = tmp_path / "inner.pt"
    torch.save(Evil(os.system, f"echo run > {flag}"), inner, _use_new_zipfile_serialization=False)
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"ema": Evil(torch.storage._load_from_bytes, inner.read_bytes())}))
    refused(path, "not a whole pickle", CheckpointError)
    assert not flag.exists()


@pytest.mark.parametrize("left", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_pickle_is_one_line(tmp_path, writer, left):
    path = save(tmp_path, writer.model(writer.song()))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(left * len(whole))])
    refused(path, "not a whole pickle of a network", CheckpointError)


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    storage = torch.zeros(4)._typed_storage()
    path = tmp_path / "evil.pkl"
    evil = Evil(torch._utils._rebuild_tensor_v2, storage, 0, (1000,), (1,), False, None)
    path.write_bytes(pickle.dumps({"ema": evil}))
    refused(path, "not a whole pickle", CheckpointError)


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "none.pkl", "does not exist")
