"""kill -9 at any place: the same command goes on, and the result is that of an undisturbed run."""

import copy
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
import torch
from workspace import TINY, family, kill

from fewstep.checkpoints import load_tensors
from fewstep.errors import CheckpointError
from fewstep.headers import read_header

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


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Watch:
    """Collects the step of every checkpoint that appears."""

    def __init__(self, state: Path):
        self.state, self.steps, self._stop = state, [0], Event()
        self._thread = Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.05):
            for file in self.state.glob("*/train.safetensors"):
                try:
                    step = read_header(file)["step"]
                except CheckpointError:  # removed in this moment: the run has ended
                    continue
                if step != self.steps[-1]:
                    self.steps.append(step)


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
