"""Checkpoints: the same function as the released network's, one line for what can't be read, and what a study does."""

import math
import os
import shutil
import sys

import pytest
import torch
from edm_pickles import Writer, persistent, save, stand_ins
from safetensors.torch import load_file, save_file

from fewstep import pretrained
from fewstep.checkpoints import load_state, load_tensors, save_tensors
from fewstep.config import make_study
from fewstep.errors import UserError
from fewstep.files import read_json, write_json
from fewstep.headers import save_arrays
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.model import build_model
from fewstep.plan import Fitted, Plan
from fewstep.pretrained import edm, states
from fewstep.stages import fit, sample
from fewstep.timesteps import Timesteps
from fewstep.weights import sha256_of
from tests.released import ddpmpp, unet2d

TINY = {"multipliers": (1, 2), "blocks": 1, "attention": (1,)}


def model_of(path, shape, classes=0, baseline_path="vp"):
    checkpoint = pretrained.load(str(path), None, shape, classes, baseline_path)
    model = build_model(checkpoint.card)
    model.net.load_state_dict(checkpoint.weights)
    return model.eval()


# the same function


def test_discrete_steps_are_exact_at_their_own_levels_and_ordered_in_between():
    """alpha_i^2 is the product of 1 - beta_j (arXiv 2006.11239, §2)."""
    steps, product = Timesteps(), 1.0
    for i in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * i / 999)
        if i in (0, 1, 140, 500, 998, 999):
            assert float(steps.step(torch.tensor(math.log(product) / 2, dtype=torch.float64))) == pytest.approx(
                i, abs=1e-6
            )
    told = steps.step(torch.linspace(-4, -1e-5, 5000, dtype=torch.float64))
    assert (told.diff() < 0).all() and (told >= 0).all()
    ends = torch.tensor([0.0, -20.0], dtype=torch.float64)
    assert steps.step(ends).tolist() == [0, 999]


@torch.no_grad()
def test_a_network_of_discrete_time_is_told_its_own_step(tmp_path):
    """At a level alpha_i its step i, and not that of the continuous path's time."""
    unet2d(tmp_path)
    model, told = model_of(tmp_path, (1, 8, 8)), []
    model.net.embed.register_forward_pre_hook(lambda module, inputs: told.append(float(inputs[1][0])))
    for i in (3, 500, 990):
        bar = math.prod(1 - (1e-4 + (0.02 - 1e-4) * j / 999) for j in range(i + 1))
        t = model.path.time_at_ratio(torch.tensor(math.sqrt((1 - bar) / bar), dtype=torch.float64))
        model(torch.zeros(1, 1, 8, 8), t)
        assert told[-1] == pytest.approx(i, abs=1e-3) and abs(999 * float(t) - i) > 0.1


@torch.no_grad()
def test_rectified_flow_turned_round_is_the_same_flow(tmp_path):
    """In its own time s = 1 - t, dx/ds = v(x, 999 s); so dx/dt = -v(x, 999 (1 - t))."""
    net, t = ddpmpp(), torch.tensor([0.0, 0.01, 0.3, 0.77, 1.0])
    net.save(tmp_path / "checkpoint_8.pth")
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = model_of(tmp_path / "checkpoint_8.pth", (3, 16, 16), baseline_path="rf")(x, t).velocity
    torch.testing.assert_close(found, -net(x, 999 * (1 - t)), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_score_sde_on_vp_is_the_noise_at_999_t(tmp_path):
    net, t = ddpmpp(**TINY), torch.tensor([0.01, 0.3, 1.0])
    net.save(tmp_path / "checkpoint.pth")
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        model_of(tmp_path / "checkpoint.pth", (3, 8, 8))(x, t).eps, net(x, 999 * t), rtol=1e-4, atol=1e-4
    )


def edm_state(tmp_path, prefix="model."):
    """A state dict under EDM's names, wrapped as 2-rectified flow++ saves it, and the network that it is of."""
    from fewstep.pretrained import score_sde

    net = ddpmpp(**TINY)
    net.save(tmp_path / "raw.pth")
    content = torch.load(tmp_path / "raw.pth", weights_only=True)
    state = score_sde.as_edm(content, (3, 8, 8), "vp", tmp_path)
    return {prefix + name: tensor for name, tensor in state.items()}, net


@torch.no_grad()
def test_a_state_dict_under_edms_names_is_what_the_baselines_path_says(tmp_path):
    """The straight path's velocity is (x - D) / t with EDM's D at x / (1 - t) and t / (1 - t) (arXiv 2405.20320)."""
    state, net = edm_state(tmp_path)
    torch.save(state, tmp_path / "flow.pth")
    x, t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)), 0.3
    sigma = t / (1 - t)
    n = math.hypot(sigma, 0.5)
    wide, c_noise = x / (1 - t), torch.full((3,), math.log(sigma) / 4)
    D = (0.5 / n) ** 2 * wide + sigma * 0.5 / n * net(wide / n, c_noise)
    edm, flow = (model_of(tmp_path / "flow.pth", (3, 8, 8), baseline_path=path) for path in ("edm", "rf"))
    torch.testing.assert_close(edm(wide, sigma).x0, D, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flow(x, t).velocity, (x - D) / t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["song", "ncsnpp", "adm"])
def test_a_state_dict_reads_like_the_pickle_of_its_network(kind, tmp_path, monkeypatch):
    """But for dropout and resolutions that it doesn't have, of which tensors tell nothing."""
    for name, module in stand_ins().items():
        monkeypatch.setitem(sys.modules, name, module)
    writer = Writer(persistent(tmp_path / "flag"))
    net = getattr(writer, kind)()
    expected = edm.read(save(tmp_path, writer.model(net)))
    state = {f"module.model.{name}": tensor for name, tensor in net.state_dict().items() if tensor is not None}
    torch.save(state, tmp_path / "net.pth")
    found = states.read(tmp_path / "net.pth", "edm")
    told = expected.card["net"]
    told.pop("dropout")
    told["attention"] = [side for side in told["attention"] if side in (4, 2)]
    assert found.card == expected.card
    assert found.weights.keys() == expected.weights.keys()
    assert all(torch.equal(tensor, expected.weights[name]) for name, tensor in found.weights.items())


# one line


@pytest.fixture
def folder(tmp_path):
    unet2d(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def refused(says, path, sha256=None, shape=(1, 8, 8), classes=0, baseline_path="vp"):
    with pytest.raises(UserError, match=says) as error:
        pretrained.inspect(str(path), sha256, baseline_path, shape, classes)
    assert "\n" not in str(error.value)


def test_what_suits_is_accepted_with_its_hash(folder):
    file = folder / "diffusion_pytorch_model.safetensors"
    pretrained.inspect(str(folder), sha256_of(file).upper(), "vp", (1, 8, 8), 0)
    pretrained.inspect(str(file), None, "vp", (1, 8, 8), 0)
    refused("SHA-256 [0-9a-f]{64}, expected 0000", folder, sha256="0" * 64)


def test_what_is_not_there_or_not_known(folder, tmp_path):
    refused("nowhere.pkl does not exist", tmp_path / "nowhere.pkl")
    (tmp_path / "empty").mkdir()
    refused("a folder without config.json", tmp_path / "empty")
    (tmp_path / "text.pkl").write_text("<html>not found</html>")
    refused("neither a pickle, nor a file by torch.save, nor safetensors", tmp_path / "text.pkl")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    refused("has no diffusion_pytorch_model.safetensors", folder)


def test_a_truncated_file(folder, tmp_path):
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused("is truncated or corrupt", folder)
    torch.save(edm_state(tmp_path)[0], tmp_path / "flow.pth")
    data = (tmp_path / "flow.pth").read_bytes()
    (tmp_path / "flow.pth").write_bytes(data[: len(data) // 2])
    refused("flow.pth is no whole file of PyTorch weights", tmp_path / "flow.pth")


def test_another_path_size_or_class_names_what_differs(folder):
    refused("is of a model on the path vp, and the baseline is on rf", folder, baseline_path="rf")
    refused(r"samples of 1×8×8, and the dataset's are 3×8×8: stem.weight has the shape \[8, 1, 3, 3\] and should have "
            r"\[8, 3, 3, 3\]", folder, shape=(3, 8, 8))  # fmt: skip
    refused(
        r"are 1×16×16: down.2.attention.norm.(weight|bias) of shape \[16\] should not be there",
        folder,
        shape=(1, 16, 16),
    )
    refused(r"is told 0 classes, and the dataset has 4: embed.label.weight is missing and should", folder, classes=4)


def test_another_architecture_names_the_first_tensor(folder):
    """The configuration tells of blocks and widths that the file doesn't have."""
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"layers_per_block": 2})
    refused(r"down.1.norm1.weight is missing and should have the shape \[8\]", folder)
    write_json(folder / "config.json", config | {"block_out_channels": [8, 24]})
    refused(r"down.2.conv1.weight has the shape \[16, 8, 3, 3\] and should have \[24, 8, 3, 3\]", folder)
    for key, value in {"freq_shift": 0, "downsample_padding": 1, "attention_head_dim": 8, "norm_num_groups": 4}.items():
        write_json(folder / "config.json", config | {key: value})
        refused(f"config.json: {key} is {value}; only networks with", folder)
    write_json(folder / "config.json", config | {"_class_name": "UNet2DConditionModel"})
    refused("is of a UNet2DConditionModel; only UNet2DModel", folder)
    write_json(folder / "config.json", config)
    write_json(folder / "scheduler_config.json", {"beta_schedule": "squaredcos_cap_v2"})
    refused("beta_schedule is 'squaredcos_cap_v2'; only networks with 'linear'", folder)


def test_other_state_dicts_name_the_first_tensor(tmp_path):
    file = tmp_path / "net.pth"
    torch.save({"conv.weight": torch.zeros(2)}, file)
    refused("is no state dict of EDM's SongUNet", file, shape=(3, 8, 8), baseline_path="rf")
    state, _ = edm_state(tmp_path)
    state["model.enc.8x8_block0.conv1.weight"] = torch.zeros(8, 8, 1, 1)
    torch.save(state, file)
    refused(r"down.blocks.0.conv2.weight has the shape \[8, 8, 1, 1\] and should have \[8, 8, 3, 3\]", file,
            shape=(3, 8, 8), baseline_path="rf")  # fmt: skip
    refused("is of a model on the path edm or rf, not vp", file, shape=(3, 8, 8))
    ddpmpp(**TINY).save(file)
    refused("is of a model on the path rf or vp, not edm", file, shape=(3, 8, 8), baseline_path="edm")


def test_tensors_that_no_memory_holds_are_one_line(tmp_path):
    """Few bytes of a file may be said to be many numbers."""
    state, _ = edm_state(tmp_path)
    for huge in (torch.zeros(1, dtype=torch.float64).expand(1 << 45), torch.zeros(()), torch.zeros(0, 3)):
        torch.save({**state, "model.enc.8x8_conv.weight": huge}, tmp_path / "net.pth")
        refused("does not hold a network's weights|has the shape", tmp_path / "net.pth", shape=(3, 8, 8),
                baseline_path="edm")  # fmt: skip


def test_a_card_of_ours_is_not_believed_either(tmp_path):
    """A network of a million channels would need more memory than there is."""
    net = {"kind": "song", "channels": 1 << 20, "multipliers": [1], "blocks": 1}
    card = {"path": "edm", "parametrisation": "denoiser", "sigma_data": 0.5, "net": net, "shape": [1, 8, 8]}
    tensors = {f"model.net.{i}": torch.zeros(1) for i in range(9)}
    save_tensors(tmp_path / "edm.safetensors", tensors, {"status": "ok", "model": "edm", "card": card, "info": {}})
    refused(r"is missing and should have the shape", tmp_path / "edm.safetensors", baseline_path="edm")


def test_no_code_of_a_file_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": Evil()}, tmp_path / "net.pth")
    refused("holds more than tensors", tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


# in a study


def study(pretrained, **section) -> dict:
    base = {"baselines": ["ddpm", "edm"], "accelerators": ["edm+qac"], "solvers": ["euler"], "controls": []}
    base |= {"nfe": [2], "blocks": 1, "block_size": 4, "batch": 4, "probes": 2, "curvature_steps": 4}
    base |= {"train": {"steps": 2, "batch": 4}, "methods": {"qac": {"dimensions": 2}}}
    return {"study": "checkpoints", "datasets": {"digits": base | {"pretrained": pretrained} | section}}


def plan(pretrained, **section) -> Plan:
    return Plan(make_study(study(pretrained, **section)))


@pytest.mark.parametrize(
    "pretrained, section, says",
    [
        ({"dpm": {"path": "x"}}, {}, "digits.pretrained: unknown baseline of the study 'dpm'; did you mean 'ddpm'?"),
        ({"rf": {"path": "x"}}, {}, "unknown baseline of the study 'rf'"),
        (
            {"ddpm": {"path": "x"}},
            {"train_seeds": [0, 1]},
            r"a checkpoint is one training; give one of train_seeds \[0",
        ),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(pretrained, section, says):
    with pytest.raises(UserError, match=says) as error:
        plan(pretrained, **section)
    assert "\n" not in str(error.value)


def test_the_key_is_the_checkpoints_content(folder):
    weights = {"ddpm": {"path": str(folder)}}
    ours, other = Fitted("digits", 0, "ddpm"), Fitted("digits", 0, "edm")
    key, same = Keys(plan(weights)).fit(ours), Keys(plan({})).fit(other)
    assert key != Keys(plan({})).fit(ours)
    assert key == Keys(plan(weights, net={"kind": "unet", "channels": 8}, train={"steps": 3, "batch": 4})).fit(ours)
    assert Keys(plan(weights)).fit(other) == same
    unet2d(folder, seed=1)
    assert Keys(plan(weights)).fit(ours) != key
    shutil.move(folder, folder.with_name("moved"))
    moved = {"ddpm": {"path": str(folder.with_name("moved"))}}
    again = Keys(plan(moved)).fit(ours)
    unet2d(folder.with_name("moved"))
    assert Keys(plan(moved)).fit(ours) == key != again


def made_from(root, **origin):
    """A results folder below `root` with a model that says that it came from a checkpoint."""
    model = Layout(root / "results").model("digits", 0, "ddpm")
    save_arrays(model, {}, {"info": {"pretrained": origin}})
    return model


@pytest.mark.parametrize("form", ["diffusers", "states"])
@pytest.mark.parametrize("given", [False, True])
def test_a_checkpoint_that_is_gone_changes_no_key_of_what_was_made_from_it(folder, tmp_path, form, given):
    path = folder
    if form == "states":
        path = tmp_path / "net.pth"
        ddpmpp(**TINY).save(path)
    described = pretrained.described(str(path))
    weights = {"path": str(path)} | ({"sha256": described["sha256"].upper()} if given else {})

    def keys():
        found = make_study({**study({"ddpm": weights}), "results": str(tmp_path / "results")})
        return [Keys(Plan(found)).fit(Fitted.named("digits", 0, name)) for name in ("ddpm", "ddpm+qac")]

    before = keys()
    model = made_from(tmp_path, **described)
    assert keys() == before and pretrained.is_made_from(model, weights["path"], weights.get("sha256"))
    shutil.move(path, path.with_name("elsewhere"))
    assert keys() == before and pretrained.is_made_from(model, weights["path"], weights.get("sha256"))
    weights["sha256"] = "0" * 64  # another one is meant
    assert keys() != before and not pretrained.is_made_from(model, weights["path"], weights["sha256"])
    model.unlink()
    del weights["sha256"]
    with pytest.raises(UserError, match=f"the checkpoint {path} does not exist"):
        keys()


def test_a_model_of_an_older_checkpoint_is_not_made_from_the_new_one(folder, tmp_path):
    model = made_from(tmp_path, **pretrained.described(str(folder)))
    unet2d(folder, seed=1)
    assert not pretrained.is_made_from(model, str(folder))
    assert not pretrained.is_made_from(tmp_path / "none.safetensors", str(folder))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A study whose two baselines are read, with samples of them and an accelerator from the checkpoint's network."""
    root = tmp_path_factory.mktemp("study")
    unet2d(root / "ddpm")
    net = {"kind": "song", "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [4]}
    card = {"path": "edm", "parametrisation": "denoiser", "sigma_data": 0.5, "net": net, "shape": [1, 8, 8]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(card)
    from fewstep.checkpoints import State, save_state

    header = {"dataset": "digits", "seed": 3, "model": "edm", "key": "", "provenance": {}}
    save_state(root / "edm.safetensors", State(model, card), header)
    weights = {"ddpm": {"path": str(root / "ddpm")}, "edm": {"path": str(root / "edm.safetensors")}}
    write_json(root / "study.json", plan(weights).study.model_dump())
    for name in ("ddpm", "edm", "edm+qac"):
        fit.run(str(root / "study.json"), str(root), "digits", 0, name, str(root / "state" / name), 1)
    return root


def test_a_baseline_is_what_its_checkpoint_holds(run):
    state, header = load_state(Layout(run).model("digits", 0, "ddpm"))
    given = load_file(run / "ddpm" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(state.model.net.stem.weight, given["conv_in.weight"])
    assert state.card["timesteps"]["count"] == 1000 and state.model.timesteps is not None
    file = run / "ddpm" / "diffusion_pytorch_model.safetensors"
    hashes = {"sha256": sha256_of(file), "config": sha256_of(file.with_name("config.json"))}
    assert header["info"]["pretrained"] == {"file": f"ddpm/{file.name}", **hashes}
    assert header["info"]["seconds"] is None and header["info"]["steps"] is None


def test_an_accelerators_network_is_like_the_checkpoints(run):
    """The study's own is an MLP."""
    _, header = load_state(Layout(run).model("digits", 0, "edm+qac"))
    assert header["card"]["net"]["kind"] == "song" and header["card"]["net"]["extra_dim"] == 2
    assert "pretrained" not in header["info"] and header["info"]["seconds"] > 0  # it starts from scratch


def test_samples_are_the_checkpoints_and_tell_it(run):
    layout, solver = Layout(run), "euler"
    for model in ("ddpm", "edm+qac"):
        output = layout.samples("digits", 0, model, solver)
        sample.run(
            str(run / "study.json"), str(run), "digits", 0, model, solver, str(run / "s" / model), 1, str(output)
        )
        tensors, header = load_tensors(output)
        assert all(point["status"] == "ok" for point in header["points"])
        assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
        told = header["provenance"].get("pretrained", "")
        assert told.startswith("ddpm/diffusion_pytorch_model.safetensors, SHA-256 ") == (model == "ddpm")


def test_curvature_of_a_checkpoint_and_its_unknown_cost(run):
    from evaluation import records
    from evaluation.stages import reference

    reference.run(str(run / "study.json"), str(run), "digits", 0, "ddpm", str(run / "r"), 1)
    document = read_json(Layout(run).reference("digits", 0, "ddpm"))
    assert document["status"] == "ok" and document["metrics"]
    keys = {"dataset": "digits", "baseline": "ddpm", "accelerator": "none", "model": "ddpm", "train_seed": 0}
    row = next(records._reference_rows(keys, document))
    assert row["fit_seconds"] is None and row["fit_steps"] is None and row["fit_parameters"] > 0
    assert row["provenance_pretrained"].startswith("ddpm/")


def test_a_fitted_model_of_more_than_a_network_is_refused(run):
    refused(r"holds edm\+qac, which is more than a baseline's network", Layout(run).model("digits", 0, "edm+qac"),
            baseline_path="edm")  # fmt: skip


def test_foreign_safetensors_are_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    refused("no file of this project's, and has no config.json of diffusers", tmp_path / "a.safetensors")


def test_a_config_of_another_project_beside_a_file_means_nothing(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    ddpmpp(**TINY).save(tmp_path / "net.pth")
    pretrained.inspect(str(tmp_path / "net.pth"), None, "vp", (3, 8, 8), 0)
