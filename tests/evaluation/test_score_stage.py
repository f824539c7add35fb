"""Scoring a model's entrants: one whose samples can't be read costs no other its scores."""

import json

import yaml
from click.testing import CliRunner

from fewstep.__main__ import main

STUDY = {
    "study": "scoring",
    "defaults": {"blocks": 1, "block_size": 16, "accelerators": [], "controls": [], "probes": 8, "curvature_steps": 4},
    "datasets": {"mixture": {"baselines": ["rf"], "solvers": ["euler", "ddim"], "nfe": [2]}},
}


def test_unreadable_samples_are_that_entrants_failure(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    options = ["--study", str(tmp_path / "study.yaml"), "--results", str(tmp_path / "results"), "--dataset", "mixture"]

    def fewstep(command, *more):
        result = CliRunner().invoke(main, [command, *options, *more], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    fewstep("data")
    fewstep("train", "--baseline", "rf")
    fewstep("reference", "--model", "rf")
    for solver in ("euler", "ddim"):
        fewstep("sample", "--model", "rf", "--solver", solver)
    file = tmp_path / "results/samples/mixture/seed0/rf/ddim.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    fewstep("score", "--model", "rf")
    scores = {
        s: json.loads((tmp_path / f"results/scores/mixture/seed0/rf/{s}.json").read_text())
        for s in STUDY["datasets"]["mixture"]["solvers"]
    }
    assert [point["status"] for point in scores["euler"]["points"]] == ["ok"]
    (point,) = scores["ddim"]["points"]
    assert (point["nfe"], point["status"]) == (2, "failed") and "ddim.safetensors" in point["reason"]
