"""Methods that look at a whole dataset do so with one whose images stay on disk."""

import pytest
import torch
from made_images import encoded, pictures, write_parquet

from fewstep import data, registry
from fewstep.config import Source, Training
from fewstep.data.prepare import prepare
from fewstep.paths import make_path
from fewstep.seeds import SampleRng
from fewstep.stages.common import training_loss
from fewstep.task import Task

NAME, N = "cifar10_jpeg75", 40
UNET = {"kind": "unet", "channels": 8, "multipliers": [1]}
BUDGET = Training(steps=2, batch=8, warmup=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    images = [encoded(picture, "JPEG", quality=75) for picture in pictures(N)]
    source = Source(parquet=str(write_parquet(folder / "a.parquet", images)), count=N)
    prepare(NAME, source, folder / f"{NAME}.safetensors")
    return data.load(NAME, folder / f"{NAME}.safetensors", flip=True)


def task_of(dataset, folder, id, base, **params) -> Task:
    """A fit of two steps on a fresh network of the baseline `base`."""
    method, baseline = registry.get(id, "accelerator"), registry.get(base, "baseline")
    axes = ("train", NAME, f"{base}+{id}", 0)
    task = Task(dataset, method.params(NAME, params), BUDGET, UNET, axes, folder)
    parametrisation = {"edm": "denoiser", "rf": "velocity"}[base]
    task.baseline = task.new_model(make_path(baseline.card.path), parametrisation)
    task.loss = training_loss(baseline, baseline.params(NAME))
    return task


@pytest.mark.parametrize("id", ["qac", "qac-kmeans", "qac-random", "rne"])
def test_codes_and_noise_are_learnt(dataset, tmp_path, id):
    options = {} if id == "rne" else {"dimensions": 3}
    state = registry.get(id, "accelerator").verb("fit")(task_of(dataset, tmp_path, id, "rf", **options))
    if id != "rne":  # the encoder has seen every image once
        assert float(state.tensors["offline.shares"].sum()) == pytest.approx(1)
        seen = state.tensors["offline.shares"] * N
        assert (seen - seen.round()).abs().max() < 1e-6


def test_a_posterior_start_needs_no_dataset(dataset, tmp_path):
    state = registry.get("rne", "accelerator").verb("fit")(task_of(dataset, tmp_path, "rne", "rf", prior="posterior"))
    assert torch.equal(state.tensors["posterior_samples"], dataset.reference[:])
    state.card["schedule"] = "uniform"
    z = torch.zeros(6, 3, 32, 32)
    field = registry.get("rne", "accelerator").verb("field")(state, z, SampleRng(NAME, 0, range(6)))
    assert field.start(z, 1.0).shape == z.shape


def test_images_are_inverted_to_their_noise(dataset, tmp_path):
    method = registry.get("rfpp", "accelerator")
    task = task_of(dataset, tmp_path, "rfpp", "edm", real=True, inversion_nfe=2)
    pairs = method.load().invert(task, method.load().straight(task.baseline), 2)
    x, z = pairs.batch(torch.tensor([3, 39]))
    assert len(pairs) == N and torch.equal(x, dataset.reference[[3, 39]]) and z.shape == x.shape


@pytest.mark.parametrize("name", ["data", "noise", "mean"])
def test_controls(dataset, name, tmp_path):
    if name == "mean":  # what a new control begins as
        from fewstep.templates.control import method

        sample = method.sample
    else:
        sample = registry.get(name, "control").verb("sample")
    z = torch.zeros(5, 3, 32, 32)
    made = sample(dataset, z, SampleRng(NAME, 0, range(5)))
    assert made.shape == z.shape and made.isfinite().all()
