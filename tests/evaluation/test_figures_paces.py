"""What the figure of paces shows: numbers of known fields in closed form, and which models have a picture."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluation.figures import paces
from evaluation.figures.style import MAX_HEIGHT, MAX_WIDTH
from evaluation.site import pictures
from fewstep.checkpoints import save_tensors
from fewstep.paths import make_path
from fewstep.plan import NONE

SHAPES = {"digits": (1, 8, 8), "moons": (2,)}
N = 5


def tensors(dataset, bend, n=6, steps=N, times=None, shape=None):
    """What a reference keeps of a model with the times t + bend(t, start); by default of steps uniform in [0, 1]."""
    shape = shape or SHAPES[dataset]
    start = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64) if times is None else times
    own = torch.stack([node + bend(node, start) * torch.ones_like(start) for node in t], dim=1)
    return {"pace_times": t, "pace_start": start, "pace": own}


def row(dataset, baseline="rf", accelerator="bend", seed=3, **more):
    row = {"dataset": dataset, "kind": "reference", "baseline": baseline, "accelerator": accelerator}
    return row | {"train_seed": seed, "solver": "", "nfe": None} | more


def keep(folder, dataset, found, model="rf+bend", seed=3):
    save_tensors(folder / f"reference/{dataset}/seed{seed}/{model}.safetensors", found, {})


def drawn(folder, dataset, rows=None):
    return paces.draw(dataset, None, pd.DataFrame(rows or [row(dataset)]), folder)


def table(folder, dataset, found, baseline="rf"):
    """The CSV of a model's picture."""
    keep(folder, dataset, found, f"{baseline}+bend")
    return pd.read_csv(drawn(folder, dataset, [row(dataset, baseline)])[2])


def hump(t):
    """0 at both ends of [0, 1]."""
    return 0.1 * math.sin(math.pi * t)


@pytest.mark.parametrize("dataset", SHAPES)
def test_both_families_draw_a_picture_that_can_be_printed(tmp_path, dataset):
    keep(tmp_path, dataset, tensors(dataset, lambda t, z: hump(t) * torch.tanh(z)))
    files = drawn(tmp_path, dataset)
    assert [file.name for file in files] == [f"{dataset}_paces_rf+bend.{kind}" for kind in ("png", "svg", "csv")]
    text = files[1].read_text()
    assert min(float(size) for size in re.findall(r"font(?:-size)?: (?:[\w-]+ )*([\d.]+)px", text)) >= 7
    size = [float(v) / 72 for v in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups()]
    assert size[0] <= MAX_WIDTH and size[1] <= MAX_HEIGHT
    assert [f"t = {t}" in text for t in ("0.8", "0.6", "0.4", "0.2")] == [True] * 4
    [shown] = pictures.of_dataset(dataset, tmp_path, [dataset])
    assert shown["title"] == "Each dimension's own pace through the noise, rf+bend"
    assert f"rf+bend on {dataset}, training seed 3, {N} steps" in shown["caption"]


@pytest.mark.parametrize("dataset", SHAPES)
def test_a_field_that_all_samples_share_has_no_spread_over_them(tmp_path, dataset):
    """On the straight path u = t; half of the dimensions are ahead by as much as the others are behind, plus 0.02."""
    sign = torch.ones(SHAPES[dataset]).flatten()
    sign[::2] = -1
    sign = sign.reshape(SHAPES[dataset])
    numbers = table(tmp_path, dataset, tensors(dataset, lambda t, z: hump(t) * sign + 0.02))
    assert list(numbers["node"]) == [1, 2, 3, 4]
    assert list(numbers["t"]) == list(numbers["u"]) == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert list(numbers["difference"]) == pytest.approx([0.02] * 4, abs=1e-6)
    assert list(numbers["spread_over_samples"]) == pytest.approx([0] * 4, abs=1e-6)
    assert list(numbers["spread_over_dimensions"]) == pytest.approx([hump(t) for t in numbers["t"]], abs=1e-6)


@pytest.mark.parametrize("dataset", SHAPES)
def test_one_pace_for_all_dimensions_has_no_spread_over_them(tmp_path, dataset):
    side = torch.tensor([1.0, -1, 1, -1, 1, -1]).reshape(-1, *[1] * len(SHAPES[dataset]))
    numbers = table(tmp_path, dataset, tensors(dataset, lambda t, z: hump(t) * side))
    assert list(numbers["difference"]) == pytest.approx([0] * 4, abs=1e-6)
    assert list(numbers["spread_over_samples"]) == pytest.approx([hump(t) for t in numbers["t"]], abs=1e-6)
    assert list(numbers["spread_over_dimensions"]) == pytest.approx([0] * 4, abs=1e-6)


@pytest.mark.parametrize(("baseline", "u"), [("edm", lambda t: t / (1 + t)), ("si", None), ("ddpm", None)])
def test_differences_are_of_noise_fractions_on_every_path(tmp_path, baseline, u):
    """Dimension 1 keeps the step's time, dimension 2 halves it."""
    times = torch.tensor([80.0, 10.0, 1.0, 0.1, 0]) if baseline == "edm" else torch.linspace(1, 0, 5).double()
    path = make_path({"edm": "edm", "si": "si", "ddpm": "vp"}[baseline])
    u = u or (
        lambda t: float(path.sigma(torch.tensor(t)) / (path.sigma(torch.tensor(t)) + path.alpha(torch.tensor(t))))
    )
    halved = tensors("moons", lambda t, z: -t / 2 * torch.tensor([0.0, 1.0]), times=times)
    numbers = table(tmp_path, "moons", halved, baseline)
    lags = [u(t / 2) - u(t) for t in numbers["t"]]
    assert list(numbers["u"]) == pytest.approx([u(t) for t in numbers["t"]], rel=1e-5)
    assert list(numbers["difference"]) == pytest.approx([lag / 2 for lag in lags], rel=1e-4)
    assert list(numbers["spread_over_dimensions"]) == pytest.approx([-lag / 2 for lag in lags], rel=1e-4)


def test_spreads_are_of_one_dimension_and_of_one_sample(tmp_path):
    """Each sample's first dimension lags as far as its start is to the right; the second keeps the step's time."""
    found = tensors("moons", lambda t, z: 0.1 * z[:, :1] * torch.tensor([1.0, 0.0]))
    x = 0.1 * found["pace_start"][:, 0].double().numpy()
    numbers = table(tmp_path, "moons", found)
    assert numbers["difference"].to_numpy() == pytest.approx(x.mean() / 2, abs=1e-6)
    assert numbers["spread_over_samples"].to_numpy() == pytest.approx(x.std() / 2**0.5, abs=1e-6)
    assert numbers["spread_over_dimensions"].to_numpy() == pytest.approx(np.sqrt((x**2).mean()) / 2, abs=1e-6)


def test_of_many_steps_six_columns_are_drawn_and_all_tabulated(tmp_path):
    keep(tmp_path, "moons", tensors("moons", lambda t, z: hump(t), steps=10))
    png, svg, csv = drawn(tmp_path, "moons")
    assert len(pd.read_csv(csv)) == 9 and svg.read_text().count("t = 0.") == 6
    with Image.open(png) as image:
        assert "6 of the 9 times between the ends" in image.text["Description"]


def test_red_is_noisier_and_the_scale_is_one_for_all(tmp_path):
    keep(tmp_path, "digits", tensors("digits", lambda t, z: 0.1 * float(t == 0.8) - 0.05 * float(t == 0.4)))
    shown = paces.Shown.read(tmp_path / "reference/digits/seed3/rf+bend.safetensors", "rf")
    figure, _ = paces._images(shown, None)
    maps = [axis.images[0] for axis in figure.axes[1:5]]
    assert all(part.norm is maps[0].norm for part in maps)
    red, plain, blue, _ = (part.cmap(part.norm(part.get_array().mean())) for part in maps)
    assert red[0] > 2 * red[2] and blue[2] > blue[0] and plain[:3] == pytest.approx([0.97] * 3, abs=0.01)


def test_the_models_own_samples_stand_at_the_end(tmp_path):
    """Those made with as many calls as the paces have steps, by the training seed that is shown."""
    keep(tmp_path, "digits", tensors("digits", lambda t, z: hump(t)))
    images = {f"nfe{n}": torch.full((6, 1, 8, 8), n, dtype=torch.uint8) for n in (N, 7)}
    save_tensors(tmp_path / "samples/digits/seed3/rf+bend/own.safetensors", images, {})
    point = {"kind": "entrant", "solver": "own"}
    points = pd.DataFrame([row("digits", nfe=n, seed=s, **point) for n in (7, N) for s in (4, 3)])
    assert paces._samples(points, N, 3, tmp_path).tolist() == images["nfe5"][: paces.ROWS].tolist()
    assert paces._samples(points, 3, 3, tmp_path) is None and paces._samples(points, N, 4, tmp_path) is None
    _, svg, _ = paces.draw("digits", None, pd.concat([points, pd.DataFrame([row("digits")])]), tmp_path)
    assert ">sample<" in svg.read_text()
    _, svg, _ = drawn(tmp_path, "digits")
    assert ">sample<" not in svg.read_text()


def test_nothing_is_drawn_without_paces(tmp_path):
    keep(tmp_path, "moons", {"solution": torch.zeros(4, 2)})
    keep(tmp_path, "moons", {"solution": torch.zeros(4, 2)}, "rf")
    assert drawn(tmp_path, "moons", [row("moons"), row("moons", accelerator=NONE), row("moons", "si")]) == []
    keep(tmp_path, "moons", tensors("moons", lambda t, z: 0, steps=1))  # only the ends
    assert drawn(tmp_path, "moons") == []
    keep(tmp_path, "moons", tensors("moons", lambda t, z: math.nan))
    assert drawn(tmp_path, "moons") == []
    keep(tmp_path, "mixture64", tensors("mixture64", lambda t, z: 0.1, shape=(64,)))  # neither images nor a plane
    assert drawn(tmp_path, "mixture64") == []
    assert not (tmp_path / "figures").exists()


def test_the_first_training_seed_is_shown_once(tmp_path):
    for seed, bend in ((3, 0.1), (4, 0.2)):
        keep(tmp_path, "moons", tensors("moons", lambda t, z, bend=bend: bend), seed=seed)
    files = drawn(tmp_path, "moons", [row("moons", seed=seed) for seed in (4, 3)])
    assert len(files) == 3 and set(pd.read_csv(files[2])["train_seed"]) == {3}
    assert list(pd.read_csv(files[2])["difference"]) == pytest.approx([0.1] * 4)


def test_of_many_models_the_first_are_drawn_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(paces, "MODELS", 1)
    for name in ("bend", "curl"):
        keep(tmp_path, "moons", tensors("moons", lambda t, z: hump(t)), f"rf+{name}")
    files = drawn(tmp_path, "moons", [row("moons", accelerator=name) for name in ("curl", "bend")])
    assert [file.stem for file in files] == ["moons_paces_rf+bend"] * 3
    with Image.open(files[0]) as image:
        assert "Of 2 models with paces the first 1 are drawn" in image.text["Description"]
