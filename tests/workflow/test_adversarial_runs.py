"""Adversarial fits by the command line: they go on after kill -9; one that diverges leaves its last good weights."""

import copy

import pytest
import torch
from workspace import TINY, Watch, family, kill, wait_for

from fewstep.checkpoints import load_state, load_tensors
from fewstep.errors import DIVERGED, OK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = 600
STUDY = copy.deepcopy(TINY) | {"study": "adversarial"}
STUDY["defaults"] |= {"nfe": [5], "fit": {"steps": STEPS, "batch": 32, "warmup": 1, "checkpoint_seconds": 0.2}}
STUDY["datasets"] = {
    "moons": {
        "baselines": ["rf"],
        "accelerators": ["mac", "mac-theta"],
        "solvers": ["euler"],
        "methods": {
            "mac": {"batch_theta": 32, "batch_phi": 32, "batch_psi": 32},
            "mac-theta": {"batch_theta": 32, "batch_psi": 32, "lr_theta": 3.0},
        },
    }
}


@pytest.fixture
def fit(fresh, tmp_path):
    """fit(results, id, kill_at) runs the command, which is killed once at that step; -> tensors, status, reason."""
    fresh.write_study(STUDY)
    log = tmp_path / "log"

    def start(results, *command):
        options = ["--study", str(fresh.study), "--results", results, "--dataset", "moons"]
        return fresh.start(["python", "-m", "fewstep", *command, *options], log, PYTHONPATH=str(fresh.root))

    def run(results, id, kill_at=None):
        file = fresh.root / results / "models/moons/seed0/rf.safetensors"
        if not file.exists():
            assert start(results, "train", "--baseline", "rf").wait() == 0, log.read_text()
        command = ["fit", "--baseline", "rf", "--accelerator", id]
        if kill_at:
            with Watch(fresh.root / results / f"state/fit/moons/seed0/rf+{id}", "refine") as watch:
                first = start(results, *command)
                wait_for(lambda: watch.steps[-1] >= kill_at, "a checkpoint")
                kill(family(first))
                first.wait()
                assert start(results, *command).wait() == 0, log.read_text()
            assert watch.steps == sorted(watch.steps), "the fit began anew"
        else:
            assert start(results, *command).wait() == 0, log.read_text()
        made = file.with_name(f"rf+{id}.safetensors")
        tensors, header = load_tensors(made)
        return made, tensors, header

    return run


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_refinement_goes_on_after_a_kill_with_the_same_bits(fit):
    _, expected, header = fit("undisturbed", "mac")
    assert header["status"] == OK
    assert any(name.startswith("method.phi.") for name in expected)
    assert_same(fit("killed", "mac", kill_at=0.3 * STEPS)[1], expected)


def test_one_that_diverges_says_so_and_leaves_its_last_good_weights(fit, fresh):
    file, _, header = fit("undisturbed", "mac-theta")
    assert header["status"] == DIVERGED and "limit" in header["reason"]
    state, _ = load_state(file)
    assert state.model is not None and all(weight.isfinite().all() for weight in state.model.parameters())
    assert 0 < state.info["steps"] < STEPS

    options = ["--study", str(fresh.study), "--results", "undisturbed", "--dataset", "moons"]
    done = fresh.fewstep("sample", "--model", "rf+mac-theta", "--solver", "own", *options)
    assert done.returncode == 0, done.stdout
    points = load_tensors(fresh.root / "undisturbed/samples/moons/seed0/rf+mac-theta/own.safetensors")[1]["points"]
    assert [(point["nfe"], point["status"]) for point in points] == [(5, DIVERGED)]
    assert header["reason"] in points[0]["reason"]
