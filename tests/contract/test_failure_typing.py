"""A method that fails becomes a row with status and reason, and costs no other point: through the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fewstep.checkpoints import load_tensors
from fewstep.headers import read_header
from fewstep.registry import ROOT

SOLVER = """
import os, signal, time
import torch

def sample(field, latents, nfe):
    x = field.start(latents, field.path.t_max)
    for _ in range(nfe + (nfe == 5)):
        velocity = field(x, 0.5).velocity
    match nfe:
        case 2: raise ValueError("two\\nlines")
        case 3: return x * float("nan")
        case 4: return x[:-1]
        case 6: raise MemoryError
        case 7: time.sleep(1000)
        case 8: os._exit(3)
        case 9: os.kill(os.getpid(), signal.SIGKILL)
        case 11: raise torch.OutOfMemoryError("no memory")
    return x
"""
EXPECTED = {
    1: ("ok", ""),
    2: ("failed", "ValueError: two lines"),
    3: ("diverged", "8 of 8 samples are not finite"),
    4: ("failed", "sample returned shape (7, 2), not (8, 2)"),
    5: ("failed", "call 6 of the network, but the budget is 5 NFE"),
    6: ("out_of_memory", "MemoryError"),
    7: ("timeout", "no end after 9 s"),
    8: ("failed", "the worker ended with exit code 3"),
    9: ("out_of_memory", "killed by signal 9"),
    10: ("ok", ""),
    11: ("out_of_memory", "OutOfMemoryError: no memory"),
}
BASELINE = """
from fewstep.losses import flow_matching
from fewstep.paths import RF
from fewstep.training import train

def fit(task):
    match = flow_matching("independent")
    steps = iter(range(100))

    def loss(model, x0, rng):
        return match(model, x0, rng) * (float("nan") if next(steps) == 4 else 1.0)

    return task.state(train(task, task.new_model(RF(), "velocity"), loss))
"""
CARDS = {
    "solvers/breaks": {"label": "breaks", "kind": "solver", "order": 1, "nfe": {"first": 1, "step": 1}},
    "baselines/explodes": {"label": "explodes", "kind": "baseline", "path": "rf", "schedule": "uniform"},
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """A methods folder with what fails, and a study that runs it."""
    root = tmp_path_factory.mktemp("failures")
    for place, code in (("solvers/breaks", SOLVER), ("baselines/explodes", BASELINE)):
        home = root / "methods" / place
        home.mkdir(parents=True)
        card = {"name": home.name, "summary": "fails", "paper": {"title": "none"}, **CARDS[place]}
        (home / "method.yaml").write_text(yaml.safe_dump(card))
        (home / "method.py").write_text(code)
    study = {
        "study": "failures",
        "limits": {"point_minutes": 0.15, "fit_minutes": 5},
        "defaults": {"blocks": 1, "block_size": 8, "accelerators": [], "controls": []},
        "datasets": {
            "mixture": {"baselines": ["rf"], "solvers": ["breaks"], "nfe": list(EXPECTED)},
            "moons": {
                "baselines": ["explodes"],
                "solvers": ["euler"],
                "nfe": [1, 2],
                "net": {"kind": "mlp", "width": 8, "depth": 1},
                "train": {"steps": 8, "batch": 8},
            },
        },
    }
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    return root


def fewstep(broken: Path, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m fewstep …` on the study in `broken`; exit code 0, since a failure is a result."""
    env = os.environ | {"FEWSTEP_METHODS": str(broken / "methods"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = ["--study", "study.yaml", "--results", "results"]
    command = [sys.executable, "-m", "fewstep", arguments[0], *options, *arguments[1:]]
    done = subprocess.run(command, cwd=broken, env=env, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done


def test_each_failure_is_a_row_with_its_reason(broken):
    fewstep(broken, "train", "--dataset", "mixture", "--baseline", "rf")
    fewstep(broken, "sample", "--dataset", "mixture", "--model", "rf", "--solver", "breaks")
    tensors, header = load_tensors(broken / "results/samples/mixture/seed0/rf/breaks.safetensors")
    points = {point["nfe"]: point for point in header["points"]}
    assert list(points) == list(EXPECTED)
    for nfe, (status, reason) in EXPECTED.items():
        assert points[nfe]["status"] == status, points[nfe]
        assert points[nfe]["reason"].startswith(reason) and "\n" not in points[nfe]["reason"]
    fine = [nfe for nfe, (status, _) in EXPECTED.items() if status == "ok"]
    assert {name for name in tensors if name.startswith("nfe")} == {f"nfe{nfe}" for nfe in fine}
    assert [points[nfe]["nfe_measured"] for nfe in fine] == fine
    assert not list((broken / "results").rglob("*.tmp"))


def test_a_diverged_training_is_carried_to_its_samples(broken):
    fewstep(broken, "train", "--dataset", "moons", "--baseline", "explodes")
    header = read_header(broken / "results/models/moons/seed0/explodes.safetensors")
    assert header["status"] == "diverged" and header["reason"] == "train: the loss is nan at step 4"
    fewstep(broken, "sample", "--dataset", "moons", "--model", "explodes", "--solver", "euler")
    points = read_header(broken / "results/samples/moons/seed0/explodes/euler.safetensors")["points"]
    assert [(point["nfe"], point["status"]) for point in points] == [(1, "diverged"), (2, "diverged")]
    assert all("the loss is nan at step 4" in point["reason"] for point in points)
