"""Zero-shot edits by a fitted model: what they depend on, the command, and the picture that it writes."""

import shlex

import pytest
import torch
import yaml

from fewstep import data
from fewstep.__main__ import run
from fewstep.checkpoints import State, load_tensors, save_state
from fewstep.editing import operators, picture
from fewstep.editing.job import draw
from fewstep.headers import save_failure
from fewstep.layout import Layout
from fewstep.model import Model, build_model
from fewstep.plan import Fitted
from fewstep.seeds import generator
from fewstep.stages.common import Loaded

GREY = (1, 8, 8)


def tiny_model(path: str = "rf") -> tuple[Model, dict]:
    """A small U-Net with random weights, and its card."""
    net = {"kind": "unet", "channels": 8, "multipliers": [1]}
    card = {"net": net, "shape": list(GREY), "path": path, "parametrisation": "velocity", "sigma_data": 0.5}
    with torch.random.fork_rng(devices=[]):
        model = build_model(card)
    rng = generator("test editing", "weights")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=rng))
    return model.eval().requires_grad_(False), card | {"schedule": "uniform"}


def test_an_edit_depends_on_the_image_and_its_index_alone():
    model, card = tiny_model()
    loaded = Loaded(Fitted("digits", 0, "rf"), State(model, card), torch.device("cpu"))
    originals, operator = data.load("digits").reference[10:15], operators.super_resolution(GREY, 2)

    def edit(rows: slice, number: int = 0) -> torch.Tensor:
        images, calls = draw(loaded, originals[rows], range(10, 15)[rows], operator, 6, number)
        assert calls == 6
        return images

    before = torch.get_rng_state()
    whole = edit(slice(0, 5))
    assert torch.equal(torch.get_rng_state(), before), "the global random stream moved"
    split = torch.cat([edit(slice(0, 1)), edit(slice(1, 5))])
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(edit(slice(0, 5)), whole)
    assert float((edit(slice(0, 5), number=1) - whole).abs().max()) > 1e-3, "two draws are the same"


def test_a_model_is_conditioned_by_its_own_encoder_and_nothing_else():
    """What sampling would have put beside the latents is replaced at every step."""
    model, card = tiny_model()
    conditions = []

    def network(x, t, **condition):
        conditions.append(condition)
        return model(x, t)

    network.path = model.path
    loaded = Loaded(Fitted("digits", 0, "rf"), State(network, card), torch.device("cpu"))
    loaded.encode = lambda x0, eps: (eps, {"extra": x0.mean((2, 3))})
    originals, operator = data.load("digits").reference[:2], operators.inpainting(GREY, "left")
    draw(loaded, originals, range(2), operator, 3)
    assert [list(condition) for condition in conditions] == [["extra"]] * 3
    torch.testing.assert_close(conditions[0]["extra"], operator.known(originals).mean((2, 3)))


# the command

STUDY = {
    "study": "tiny",
    "results": "results",
    "defaults": {"blocks": 1, "block_size": 8, "nfe": [1], "solvers": ["euler"], "accelerators": []},
    "datasets": {
        "digits": {"baselines": ["rf", "edm", "si"], "accelerators": ["rf+reflow"]},
        "moons": {"baselines": ["rf"], "net": {"kind": "mlp", "width": 8, "depth": 1}},
    },
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with a study, an `rf` on digits, an `edm` that claims to be of moons, and an `si` that failed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(STUDY))
    layout = Layout(tmp_path / "results")
    model, card = tiny_model()
    state = State(model, card, info={"weights_sha256": "abc"})
    save_state(layout.model("digits", 0, "rf"), state, {"dataset": "digits", "key": "k"})
    save_state(layout.model("digits", 0, "edm"), state, {"dataset": "moons", "key": "k"})
    save_failure(layout.model("digits", 0, "si"), "diverged", "the loss is not finite", {"dataset": "digits"})
    return layout


def command(arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["edit", *shlex.split(arguments)])
    return ended.value.code


def test_the_command_writes_a_picture_and_what_it_shows(study, tmp_path, capsys):
    asked = "--dataset digits --model rf --task inpaint --region random --share 0.3 --mask-seed 4 --first 5 --n 3"
    assert command(f"{asked} --draws 2 --steps 4") == 0
    file = tmp_path / "results/edits/digits/seed0/rf/inpaint-random-0.3-4.png"
    assert capsys.readouterr().out.strip().endswith(file.name)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.suffix for p in file.parent.iterdir()) == [".png", ".safetensors"]
    tensors, about = load_tensors(file.with_suffix(".safetensors"))
    assert torch.equal(tensors["original"], data.load("digits").reference[5:8])
    hidden = tensors["given"] != tensors["original"]
    assert int(hidden.any(0).sum()) <= 19  # round(0.3 · 64); a pixel that is 0 anyway does not show
    shown = operators.inpainting(GREY, "random", 0.3, 4).Omega.expand(2, 3, *GREY) == 0
    assert tensors["edited"].shape == (2, 3, *GREY)
    assert torch.equal(tensors["edited"][shown], tensors["original"].expand(2, 3, *GREY)[shown])
    assert {key: about[key] for key in ("nfe", "seed", "task", "weights_sha256", "key", "indices")} == {
        "nfe": 4, "seed": 0, "task": "inpaint", "weights_sha256": "abc", "key": "k", "indices": [5, 6, 7],
    }  # fmt: skip


def test_the_picture_can_go_elsewhere(study, tmp_path):
    assert command("--dataset digits --model rf --task superres --steps 1 --n 1 --output a/b.png") == 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b.png", "b.safetensors"}
    assert command("--dataset digits --model rf --task superres --steps 1 --n 2 --output a/b.png") == 0  # again
    assert len(load_tensors(tmp_path / "a/b.safetensors")[0]["original"]) == 2


REFUSED = [
    ("--dataset digits --model rf --task colourise", "3 channels, and these have 1"),
    ("--dataset digits --model rf --task superres --factor 3", "got 3"),
    ("--dataset digits --model rf --task inpaint --factor 2", "--factor is an option of superres"),
    ("--dataset digits --model rf --task superres --region left", "--region is an option of inpaint"),
    ("--dataset digits --model rf --task inpaint --share 0.2", "--share is an option of inpaint with --region random"),
    ("--dataset digits --model rf --task inpaint --region lft", "lft"),
    ("--dataset digits --model rf --task inpaint --region random --share 0", "hides 0 of 64"),
    ("--dataset digits --model rf --task blur", "blur"),
    ("--dataset digits --model rf --task inpaint --steps 0", "--steps"),
    ("--dataset digits --model rf --task inpaint --n 0", "--n"),
    ("--dataset digits --model rf --task inpaint --first 1790 --n 8", "digits has 1797 images, 0 to 1796"),
    ("--dataset digits --model rf --task inpaint --output a.jpg", "ends in .png"),
    ("--dataset digits --model rff --task inpaint", "did you mean 'rf'?"),
    ("--dataset digit --model rf --task inpaint", "did you mean 'digits'?"),
    ("--dataset moons --model rf --task inpaint", "moons holds vectors; there are: digits"),
    (
        "--dataset digits --model rf+reflow --task inpaint",
        "make it with: python -m fewstep fit --study config.yaml --results results --dataset digits --seed 0 "
        "--baseline rf --accelerator reflow",
    ),
    ("--dataset digits --model edm --task inpaint", "was fitted on moons, not on digits"),
    ("--dataset digits --model si --task inpaint", "the loss is not finite"),
    ("--dataset digits --model rf --task inpaint --output results/models/digits/seed0/rf.png", "is no edit"),
]


@pytest.mark.parametrize("arguments, says", REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_bad_input_is_one_line_and_nothing_is_written(study, tmp_path, capsys, arguments, says):
    before = sorted(tmp_path.rglob("*"))
    assert command(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert says in err and out == ""
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


def test_a_model_of_other_code_is_refused(study, capsys):
    model, card = tiny_model()
    card["net"] = {**card["net"], "channels": 16}
    save_state(study.model("digits", 0, "rf"), State(model, card), {"dataset": "digits"})
    assert command("--dataset digits --model rf --task inpaint") == 2
    assert "fitted by another version of the code" in capsys.readouterr().err


def test_hidden_pixels_have_a_colour_of_their_own_and_a_grey_picture_shows_the_luma():
    known, Omega = torch.ones(1, *GREY), operators.inpainting(GREY, "left").Omega
    shown = picture.given("inpaint", known, Omega)
    assert shown.shape == (1, 8, 8, 3)
    assert (shown[0, :, :4] == picture.HIDDEN).all() and (shown[0, :, 4:] == 255).all()
    x = torch.zeros(1, 3, 2, 2)
    x[:, 1] = 1  # green alone
    grey = picture.given("colourise", operators.colourisation((3, 2, 2)).known(x), torch.zeros(1))
    assert (grey == int(127.5 * 0.587 + 128)).all()
