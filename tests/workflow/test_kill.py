"""kill -9 at any place: the same command goes on, and the result is that of an undisturbed run."""

import copy
import re
import subprocess

import psutil
import pytest
import torch
from workspace import TINY, Watch, family, kill, wait_for

from fewstep.checkpoints import load_tensors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 6000
LONG = {
    "study": "long",
    "defaults": {
        "net": {"kind": "mlp", "width": 16, "depth": 2},
        "train": {"steps": STEPS, "batch": 32, "checkpoint_seconds": 0.5},
    },
    "datasets": {"moons": {"baselines": ["rf"], "accelerators": [], "solvers": ["euler"], "nfe": [1]}},
}


def test_training_goes_on_after_kills_with_the_same_weights(fresh, tmp_path):
    fresh.write_study(LONG)

    def train(results: str) -> subprocess.Popen:
        options = ["--study", str(fresh.study), "--results", results, "--dataset", "moons", "--baseline", "rf"]
        return fresh.start(["python", "-m", "fewstep", "train", *options], log, PYTHONPATH=str(fresh.root))

    log = tmp_path / "log"
    undisturbed = train("undisturbed")
    assert undisturbed.wait() == 0, log.read_text()

    with Watch(fresh.root / "killed/state/fit/moons/seed0/rf") as watch:
        # the parent alone: its worker ends by itself
        run = train("killed")
        wait_for(lambda: watch.steps[-1] > 0.1 * STEPS, "a checkpoint")
        parent, *workers = family(run)
        kill([parent])
        run.wait()
        assert not psutil.wait_procs(workers, timeout=30)[1]

        # the worker alone: its parent starts another, which goes on
        run = train("killed")
        wait_for(lambda: watch.steps[-1] > 0.35 * STEPS, "a later checkpoint")
        (worker,) = family(run)[1:]
        kill([worker])
        wait_for(lambda: watch.steps[-1] > 0.6 * STEPS, "a checkpoint of the second worker")
        assert worker.pid not in [process.pid for process in family(run)]

        # all at once
        kill(family(run))
        run.wait()
        run = train("killed")
        assert run.wait() == 0, log.read_text()

    assert watch.steps == sorted(watch.steps), "a run began anew"
    expected, found = (
        load_tensors(fresh.root / name / "models/moons/seed0/rf.safetensors")[0] for name in ("undisturbed", "killed")
    )
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_killed_run_goes_on_and_a_second_run_beside_it_stops(finished, fresh, tmp_path):
    study = copy.deepcopy(TINY)
    del study["datasets"]["moons"]
    fresh.write_study(study)
    run = fresh.start(fresh.command(), tmp_path / "log")
    wait_for((fresh.results / "data/eight_gaussians.safetensors").exists, "the first job")

    second = fresh.snakemake()
    assert second.returncode != 0
    assert [line for line in second.stdout.splitlines() if "another run is at work in results/tiny" in line]
    assert "Finished jobid" not in second.stdout

    wait_for(lambda: re.search(r"Finished jobid: \d+ \(Rule: train\)", (tmp_path / "log").read_text()), "the training")
    assert run.poll() is None
    kill(family(run))
    run.wait()
    assert not (fresh.results / "leaderboard.csv").exists()

    done = fresh.snakemake()
    assert done.returncode == 0, done.stdout
    assert "rule train:" not in done.stdout  # it was done before the kill
    fresh.assert_same_numbers(finished, "eight_gaussians")


PAIRS, FIT_STEPS = 40 * 1024, 4000
TAUGHT = copy.deepcopy(LONG) | {"study": "taught"}
TAUGHT["defaults"] |= {
    "train": {"steps": 20, "batch": 32},
    "fit": {"steps": FIT_STEPS, "batch": 32, "checkpoint_seconds": 0.3},
    "methods": {"reflow": {"pairs": PAIRS, "pair_solver": "euler", "pair_nfe": 100}},
}
TAUGHT["datasets"]["moons"] |= {"accelerators": ["reflow"]}


def test_pairs_and_the_fit_on_them_go_on_after_kills_with_the_same_bits(fresh, tmp_path):
    fresh.write_study(TAUGHT)
    log = tmp_path / "log"

    def start(results: str, *command: str) -> subprocess.Popen:
        options = ["--study", str(fresh.study), "--results", results, "--dataset", "moons"]
        return fresh.start(["python", "-m", "fewstep", *command, *options], log, PYTHONPATH=str(fresh.root))

    draw = ["pairs", "--model", "rf", "--pairs", f"euler-100-{PAIRS}"]
    fit = ["fit", "--baseline", "rf", "--accelerator", "reflow"]
    for command in (["train", "--baseline", "rf"], draw, fit):
        assert start("undisturbed", *command).wait() == 0, log.read_text()
    assert start("killed", "train", "--baseline", "rf").wait() == 0, log.read_text()

    folder = fresh.root / "killed/pairs/moons/seed0/rf"
    manifest, shards = folder / f"euler-100-{PAIRS}.json", lambda: sorted(folder.glob("euler-100/*.safetensors"))
    run = start("killed", *draw)
    wait_for(lambda: len(shards()) > 3, "some shards")
    kill(family(run))
    run.wait()
    made = {file: file.stat().st_mtime_ns for file in shards()}
    assert 3 < len(made) < 40 and not manifest.exists()
    assert start("killed", *draw).wait() == 0, log.read_text()
    assert {file: file.stat().st_mtime_ns for file in made} == made, "a whole shard was made again"
    assert len(shards()) == 40 and manifest.exists()
    for file in shards():
        expected = load_tensors(fresh.root / "undisturbed" / file.relative_to(fresh.root / "killed"))[0]["x"]
        assert torch.equal(load_tensors(file)[0]["x"], expected)

    damaged = shards()[7]
    damaged.write_bytes(damaged.read_bytes()[:-100])  # the fit finds it and makes it again
    state = fresh.root / "killed/state/fit/moons/seed0/rf+reflow"
    with Watch(state) as watch:
        run = start("killed", *fit)
        wait_for(lambda: watch.steps[-1] > 0.2 * FIT_STEPS, "a checkpoint of the fit")
        kill(family(run))
        run.wait()
        assert start("killed", *fit).wait() == 0, log.read_text()
    assert watch.steps == sorted(watch.steps), "the fit began anew"
    assert len(load_tensors(damaged)[0]["x"]) == 1024
    expected, found = (
        load_tensors(fresh.root / name / "models/moons/seed0/rf+reflow.safetensors")[0]
        for name in ("undisturbed", "killed")
    )
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)

    # pairs of another model in this one's place
    (fresh.root / "killed/models/moons/seed0/rf+reflow.safetensors").unlink()
    moved = manifest.read_text().replace('"seed": 0', '"seed": 1', 1)
    manifest.write_text(moved)
    options = ["--study", str(fresh.study), "--results", "killed", "--dataset", "moons"]
    refused = fresh.fewstep(*fit, *options)
    assert refused.returncode == 2
    assert "these pairs are of seed 1, not of seed 0" in refused.stdout.splitlines()[-1]
    assert not (fresh.root / "killed/models/moons/seed0/rf+reflow.safetensors").exists()
