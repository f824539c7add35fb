"""Solvers that learn from the field: what their fit costs is recorded, survives a kill, and fails as a row."""

import pytest
import torch
import yaml
from click.testing import CliRunner
from fitting import plain

from fewstep import data
from fewstep.__main__ import main
from fewstep.calibration import Calibration
from fewstep.checkpoints import load_tensors
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import RF

STUDY = {
    "study": "calibration",
    "defaults": {"blocks": 1, "block_size": 16, "accelerators": [], "controls": [], "probes": 8},
    "datasets": {"mixture": {"baselines": ["rf"], "solvers": ["rk45", "fails", "dies"], "nfe": [1, 12, 13]}},
}
CARD = {"name": "fails", "label": "fails", "kind": "solver", "order": 1, "summary": "fails", "paper": {"title": "none"}}
METHOD = """
import os

def fit(task):
    task.once("first", lambda: {})
    if __name__.endswith("dies"):
        os._exit(3)
    raise MemoryError("too little")

def sample(field, latents, nfe, fitted):
    return latents
"""


def task(folder) -> Calibration:
    mixture = Mixture.of([1.0], [[0.0, 0.0]], 1.0)

    def make_field(indices, z, **options):
        return Field(mixture.exact(RF()), RF(), "uniform", **options)

    axes = ("calibration", "mixture", "rf", "any", 0)
    return Calibration(data.load("mixture"), {}, (1,), axes, make_field, plain, folder)


def test_once_keeps_what_was_computed_and_what_it_cost(tmp_path):
    def compute(task):
        z = task.latents(4)
        field = task.field(z)
        field(z, 1.0)
        return {"answer": field(z, 0.5).x0}

    first = task(tmp_path)
    answer = first.once("it", lambda: compute(first))
    assert first.calls == 8
    again = task(tmp_path)  # after a kill
    kept = again.once("it", lambda: pytest.fail("computed again"))
    assert torch.equal(kept["answer"], answer["answer"])
    assert again.calls == 8 and again.spent["seconds"] > 0


def test_latents_of_a_fit_are_not_the_judged_ones(tmp_path):
    from fewstep.seeds import latents

    z = task(tmp_path).latents(4)
    assert torch.equal(z, task(tmp_path / "other").latents(4))
    assert not torch.equal(z, latents("mixture", 0, range(4), (2,)))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    root = tmp_path_factory.mktemp("calibration")
    for name in ("fails", "dies"):
        folder = root / "methods" / "solvers" / name
        folder.mkdir(parents=True)
        (folder / "method.yaml").write_text(yaml.safe_dump(CARD | {"name": name, "nfe": {"first": 1, "step": 1}}))
        (folder / "method.py").write_text(METHOD)
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY))
    return root


def fewstep(root, monkeypatch, *arguments):
    from fewstep import registry

    monkeypatch.setenv("FEWSTEP_METHODS", str(root / "methods"))
    registry.discover.cache_clear()
    try:
        options = ["--study", str(root / "study.yaml"), "--results", str(root / "results")]
        result = CliRunner().invoke(main, [arguments[0], *options, *arguments[1:]], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    finally:
        registry.discover.cache_clear()


def test_cost_and_what_was_learnt_are_recorded(sampled, monkeypatch):
    fewstep(sampled, monkeypatch, "train", "--dataset", "mixture", "--baseline", "rf")
    fewstep(sampled, monkeypatch, "sample", "--dataset", "mixture", "--model", "rf", "--solver", "rk45")
    tensors, header = load_tensors(sampled / "results/samples/mixture/seed0/rf/rk45.safetensors")
    assert {"fitted.nfe12", "fitted.nfe13"} <= set(tensors)
    for point in header["points"]:
        assert point["status"] == "ok" and point["fit_teacher_calls"] > 0 and point["fit_seconds"] > 0
        assert 7 <= point["nfe_measured"] <= point["nfe"]


@pytest.mark.parametrize(
    "solver, status, reason",
    [
        ("fails", "out_of_memory", "fails could not be fitted: MemoryError: too little"),
        ("dies", "failed", "exit code 3"),
    ],
)
def test_a_fit_that_does_not_end_well_is_the_reason_of_every_point(sampled, monkeypatch, solver, status, reason):
    fewstep(sampled, monkeypatch, "train", "--dataset", "mixture", "--baseline", "rf")
    fewstep(sampled, monkeypatch, "sample", "--dataset", "mixture", "--model", "rf", "--solver", solver)
    header = load_tensors(sampled / f"results/samples/mixture/seed0/rf/{solver}.safetensors")[1]
    assert [(p["nfe"], p["status"]) for p in header["points"]] == [(n, status) for n in (1, 12, 13)]
    assert all(reason in p["reason"] for p in header["points"])
