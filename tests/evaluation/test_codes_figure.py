"""What codes stand for: extracted from models whose codes and samples are known in closed form, then drawn."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from evaluation import codes
from evaluation.figures import codes as figure
from evaluation.site import pictures
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.data.dataset import Dataset
from fewstep.errors import Diverged
from fewstep.field import Field
from fewstep.paths import RF, Prediction, like
from fewstep.seeds import SampleRng, latents
from tests.evaluation.test_reference_stage import Bench

STD = 0.2  # of the samples with a code
POSITIVE = 0.7  # share of the codes drawn that are +1, in each digit
SHAPES = {"digits": (1, 2, 2), "moons": (2,)}


def mean(code, shape):
    """Where the samples with a code [B, 2] of signs lie: at it in the plane; bright above, and below, by its digits."""
    return code if len(shape) == 1 else code[:, None, :, None].expand(-1, *shape)


class Signs:
    """A `Loaded` whose code is the sign of a point's coordinates, or of an image's two rows; each makes a Gaussian."""

    def __init__(self, dataset, draw=None, encodes=True, finite=True):
        self.fitted, self.device = SimpleNamespace(dataset=dataset, seed=3), torch.device("cpu")
        self.shape, self.encodes, self.finite = SHAPES[dataset], encodes, finite
        self.draw = draw or (lambda rng: (rng.rand("code", 2) < POSITIVE).float() * 2 - 1)

    def encode(self, x0, eps):
        code = x0.sign() if x0.ndim == 2 else x0.mean((1, 3)).sign()
        return eps, {"extra": code} if self.encodes else {}

    def field(self, indices, z):
        code = self.draw(SampleRng(self.fitted.dataset, self.fitted.seed, indices))
        return Field(self.predict, RF(), "uniform", condition={} if code is None else {"extra": code})

    def predict(self, x, t, extra):
        """E[x0 | x_t] of x0 ~ N(mean, STD^2)."""
        t, m = like(torch.as_tensor(t), x), mean(extra, self.shape).to(x) if self.finite else torch.nan
        gain = (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2)
        return Prediction(RF(), x, t, x0=m + gain * (x - (1 - t) * m))


def toy(dataset, n=600):
    """Data of both signs in both digits, a quarter each."""
    shape, rng = SHAPES[dataset], torch.Generator().manual_seed(0)
    code = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)]).repeat(n // 4, 1)
    x = mean(code, shape) + STD * torch.rand(n, *shape, generator=rng)
    return Dataset(dataset, x, draw=None)


def extracted(dataset, **options):
    return codes.tensors_of(Signs(dataset, **options), toy(dataset))


@pytest.mark.parametrize("dataset", SHAPES)
def test_codes_are_those_drawn_most_often_with_their_shares(dataset):
    found = extracted(dataset)
    assert found["codes"][0].tolist() == [1, 1] and found["codes"][-1].tolist() == [-1, -1]
    expected = [POSITIVE ** int(n) * (1 - POSITIVE) ** int(2 - n) for n in (found["codes"] > 0).sum(1)]
    assert found["code_shares"].tolist() == pytest.approx(expected, abs=4 * 0.5 / codes.DRAWS**0.5)
    assert found["code_data_shares"].tolist() == [0.25] * 4
    assert found["codes_drawn"].tolist() == [4, codes.DRAWS]


@pytest.mark.parametrize("dataset", SHAPES)
def test_examples_have_the_code_beside_which_they_are_shown(dataset):
    model, found = Signs(dataset), extracted(dataset)
    given = model.encode(found["code_data"], None)[1]["extra"]
    assert torch.equal(found["codes"][found["code_data_cell"]], given)
    if dataset == "digits":
        assert torch.bincount(found["code_data_cell"]).tolist() == [codes.IMAGES] * 4


def test_a_column_of_images_is_one_latent_under_every_code():
    """The ODE of N(m, s^2) carries eps to m + s eps."""
    found = extracted("digits")
    code = found["codes"][found["code_samples_cell"]]
    noise = latents("digits", 3, range(codes.IMAGES), SHAPES["digits"]).repeat(4, 1, 1, 1)
    assert torch.allclose(found["code_samples"], mean(code, SHAPES["digits"]) + STD * noise, atol=0.01)


def test_points_are_samples_with_the_codes_that_they_draw():
    found, n = extracted("moons"), codes.DRAWS
    drawn = Signs("moons").field(range(n), None).condition["extra"]
    assert torch.equal(found["codes"][found["code_samples_cell"]], drawn)
    assert torch.allclose(found["code_samples"], drawn + STD * latents("moons", 3, range(n), (2,)), atol=0.01)


def test_rare_codes_have_no_cell():
    found = extracted("moons", draw=lambda rng: (rng.rand("code", 2) * 5).floor())
    assert len(found["codes"]) == codes.PLANE_CODES and found["codes_drawn"][0] == 25
    shown = found["code_samples_cell"]
    assert (shown == -1).double().mean() == pytest.approx(1 - found["code_shares"].sum().item())


@pytest.mark.parametrize(
    "options",
    [
        {"draw": lambda rng: rng.randn("code", 2)},  # continuous: every code is another one
        {"draw": lambda rng: None},  # no condition
        {"encodes": False},
    ],
)
@pytest.mark.parametrize("dataset", SHAPES)
def test_a_model_without_discrete_codes_has_nothing_to_show(dataset, options):
    assert extracted(dataset, **options) == {}


def test_a_code_with_which_sampling_diverges_is_said_to():
    with pytest.raises(Diverged, match="frequent code"):
        extracted("digits", finite=False)


def test_equal_codes_are_one_cell():
    given = torch.tensor([[0.0, 2.0], [1.0, 1.0], [0.0, 2.0], [1.0, 2.0], [0.0, 2.0], [1.0, 1.0]])
    found, counts = codes.by_frequency(given)
    assert found.tolist() == [[0, 2], [1, 1], [1, 2]] and counts.tolist() == [3, 2, 1]
    assert codes.cells(found[:2], given).tolist() == [0, 1, 0, -1, 0, 1]
    assert codes.examples(torch.tensor([0, 1, 0, -1, 0]), 3, 2).tolist() == [0, 2, 1]


def drawn(folder, dataset, found, model=("toy", "signs_2")):
    """The figure of a reference file with the tensors `found`."""
    name = "+".join(model)
    save_tensors(folder / f"reference/{dataset}/seed3/{name}.safetensors", found, {})
    row = {"dataset": dataset, "kind": "reference", "baseline": model[0], "accelerator": model[1], "train_seed": 3}
    return figure.draw(dataset, None, pd.DataFrame([row]), folder)


@pytest.mark.parametrize("dataset", SHAPES)
def test_the_figure_has_text_shares_and_a_place_on_the_page(tmp_path, dataset):
    found = extracted(dataset)
    files = drawn(tmp_path, dataset, found)
    assert [file.name for file in files] == [f"{dataset}_codes_toy+signs_2.{kind}" for kind in ("png", "svg", "csv")]
    numbers = pd.read_csv(files[2])
    assert list(numbers["share_drawn"]) == pytest.approx(found["code_shares"].tolist())
    assert sorted(numbers["code"]) == ["-1 -1", "-1 1", "1 -1", "1 1"] and numbers["code"][0] == "1 1"
    [shown] = pictures.of_dataset(dataset, tmp_path, [dataset])
    assert shown["title"] == "What the codes stand for, toy+signs_2"
    assert "Codes of toy+signs_2" in shown["caption"] and "the 4 that sampling draws most often" in shown["caption"]
    assert "1000 draws, among which were 4 different codes" in shown["caption"]
    assert max(Image.open(files[0]).size) <= 1200
    sizes = re.findall(r"font(?:-size)?: (?:[\w-]+ )*([\d.]+)px", files[1].read_text())
    assert min(map(float, sizes)) >= 7


def test_images_stand_in_the_row_of_their_code():
    images = np.stack([np.full((1, 2, 2), level) for level in (-1.0, 1.0, 0.0)])
    canvas = figure._canvas(images, np.array([0, 1, 1]), 2)
    half, step = len(canvas) // 2, canvas.shape[1] // 2
    grey = [canvas[i * half + 5, j * step + 5, 0] for i in (0, 1) for j in (0, 1)]
    assert grey == [0, 255, 255, 128]  # one image of the first code, then white; two of the second


def test_a_code_that_no_training_image_has_is_told(tmp_path):
    found = extracted("digits", draw=lambda rng: (rng.rand("code", 2) * 2).floor() + 1)  # drawn: 1 and 2
    assert set(found["code_data_cell"].tolist()) == {found["codes"].tolist().index([1, 1])}
    _, svg, _ = drawn(tmp_path, "digits", found)
    assert svg.read_text().count("none was found") == len(found["codes"]) - 1


def test_a_reference_without_codes_draws_nothing(tmp_path):
    assert drawn(tmp_path, "digits", {"solution": torch.zeros(4, 1, 2, 2)}) == []
    assert drawn(tmp_path, "digits", extracted("digits"), ("toy", "none")) == []  # its file lies elsewhere: missing


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ([[0, 1, 1], [1, 0, 0]], ["011", "100"]),
        ([[63.0], [4.0]], ["63", "4"]),
        ([[3, 12], [1, 2]], ["3 12", "1 2"]),
        ([[1, 1], [-1, 1]], ["1 1", "-1 1"]),
    ],
)
def test_codes_are_written_as_digits(given, written):
    assert figure.texts(np.array(given, dtype="float32")) == written


def test_a_reference_file_holds_the_codes(tmp_path, monkeypatch):
    asked = []

    def tensors_of(loaded, dataset):
        asked.append((loaded.fitted.model, dataset.name))
        return {"codes": torch.tensor([[1.0]])}

    monkeypatch.setattr(codes, "tensors_of", tensors_of)
    bench = Bench(tmp_path).fitted()
    bench.measured()
    tensors, _ = load_tensors(bench.layout.reference("moons", 0, "rf", ".safetensors"))
    assert asked == [("rf", "moons")] and tensors["codes"].tolist() == [[1]] and "solution" in tensors
