"""The contract tests notice each way to break the contract: methods with one fault each, and the test that fails."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from fewstep.registry import ROOT

EULER = """
from itertools import pairwise
import numpy as np
import torch
from fewstep.errors import BudgetExceeded

def sample(field, latents, nfe):
    t = field.times(nfe)
    x = field.start(latents, t[0])
    {before}
    for now, after in pairwise(t.tolist()):
        {step}
    return {result}
"""
STEP = "x = x + (after - now) * field(x, now).velocity"
# name -> (what to put into EULER, the test that must fail)
SOLVERS = {
    "bad_extra": ({"before": "field(x, t[0])"}, "test_samples_and_measured_nfe"),
    "bad_fewer": ({"before": "t = t[[0, *range(2, len(t))]] if nfe > 1 else t"}, "test_samples_and_measured_nfe"),
    "bad_in_place": ({"before": "latents.mul_(0.5)"}, "test_samples_and_measured_nfe"),
    "bad_dtype": ({"result": "x.double()"}, "test_samples_and_measured_nfe"),
    "bad_nan": ({"result": "x / 0 * 0"}, "test_samples_and_measured_nfe"),
    "bad_seed": ({"before": "torch.random.manual_seed(0)"}, "test_samples_and_measured_nfe"),
    "bad_numpy": ({"before": "getattr(np, 'random').seed(0)"}, "test_samples_and_measured_nfe"),
    "bad_hidden": ({"before": "rng = torch.Generator(); rng.seed(); x = x + torch.randn(x.shape, generator=rng)"},
                   "test_samples_and_measured_nfe"),
    "bad_swallow": ({"step": "try:\n            " + STEP + "\n        except BudgetExceeded:\n            break"},
                    "test_budget_is_not_swallowed"),
    "bad_batch": ({"before": "x = x + 0.1 * x.roll(1, 0)"}, "test_network_and_batch_order"),
    "bad_mode": ({"before": "getattr(field.predict, 'train', id)(True)"}, "test_network_and_batch_order"),
    "bad_half": ({"step": "x = x + 0.5 * (after - now) * field(x, now).velocity"}, "test_straight_field_is_exact"),
    "bad_end": ({"result": "x + 0.05"}, "test_error_falls_with_nfe"),
    "bad_global": ({"before": "torch.randn(2)"}, "test_nothing_forbidden"),
}  # fmt: skip
FIT = """
import copy
import torch
from fewstep.losses import flow_matching, normal_like, uniform, velocity_matching
from fewstep.paths import RF
from fewstep.training import train

def fit(task):
    match = flow_matching("independent")
    own = torch.Generator().manual_seed(0)

    def unsaved(model, x0, rng):
        return velocity_matching(model, x0, normal_like(x0, own), uniform(len(x0), rng))

    {body}
"""
FITS = {
    "baseline": ("bad_resume", "return task.state(train(task, task.new_model(RF(), 'velocity'), unsaved))"),
    "accelerator": ("bad_owner", "return task.state(train(task, task.baseline.requires_grad_(True), match))"),
}


def card(kind: str, name: str) -> dict:
    keys = {
        "solver": {"order": 1, "nfe": {"first": 1, "step": 1}},
        "baseline": {"path": "rf", "schedule": "uniform"},
        "accelerator": {"supports": {"baselines": ["rf"]}},
    }
    return {"name": name, "label": name, "kind": kind, "summary": "bad", "paper": {"title": "none"}, **keys[kind]}


@pytest.mark.slow
def test_each_fault_is_noticed(tmp_path):
    codes = {
        ("solver", name): EULER.format(**{"before": "", "step": STEP, "result": "x", **parts})
        for name, (parts, _) in SOLVERS.items()
    }
    codes |= {(kind, name): FIT.format(body=body) for kind, (name, body) in FITS.items()}
    codes["solver", "good_euler"] = EULER.format(before="", step=STEP, result="x")
    for (kind, name), code in codes.items():
        folder = tmp_path / f"{kind}s" / name
        folder.mkdir(parents=True)
        (folder / "method.py").write_text(code)
        (folder / "method.yaml").write_text(yaml.safe_dump(card(kind, name)))
        (folder / "README.md").write_text("word " * 40)
    env = os.environ | {"FEWSTEP_METHODS": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", str(ROOT / "tests/contract"), "-k", "bad_ or good_", "-rf", "--tb=no"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250
    )
    failed = set(re.findall(r"FAILED \S+::(\w+)\[((?:bad|good)_[a-z_]+)", done.stdout))
    expected = {(test, name) for name, (_, test) in SOLVERS.items()}
    expected |= {("test_baseline", "bad_resume"), ("test_accelerator", "bad_owner")}
    assert expected <= failed, f"unnoticed: {expected - failed}\n{done.stdout[-2000:]}"
    assert "good_euler" not in {name for _, name in failed}
