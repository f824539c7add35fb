"""Jobs of several processes train, fail and go on like jobs of one."""

import threading
import time
from pathlib import Path

import in_float64
import psutil
import pytest
import torch
import yaml
from several import BUDGET, STEPS, Place, beside, of_two_processes, trained

from fewstep import jobs, registry
from fewstep.checkpoints import load_tensors
from fewstep.errors import UserError
from fewstep.headers import read_header
from fewstep.pairset import PairSet
from fewstep.plan import Fitted
from fewstep.stages import pairs

CARD = {"name": "fails", "label": "fails", "kind": "baseline", "summary": "fails", "paper": {"title": "none"}}
METHOD = """
from fewstep import distributed
from fewstep.errors import Diverged, WriteError

def fit(task):
    if distributed.rank() == 1:
        raise {error}
    distributed.wait()
"""


def write_failing(folder: Path, error: str) -> None:
    (folder / "baselines/fails").mkdir(parents=True, exist_ok=True)
    card = CARD | {"path": "rf", "schedule": "uniform"}
    (folder / "baselines/fails/method.yaml").write_text(yaml.safe_dump(card))
    (folder / "baselines/fails/method.py").write_text(METHOD.format(error=error))


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory):
    """Jobs of two processes each, and a method that fails in one of them."""
    methods = tmp_path_factory.mktemp("methods")
    write_failing(methods, "MemoryError('too little')")
    with of_two_processes(FEWSTEP_METHODS=str(methods)):
        registry.discover.cache_clear()
        yield methods
    registry.discover.cache_clear()


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """Models that one process trained."""
    return trained(tmp_path_factory.mktemp("one"))


def assert_close(found: dict, expected: dict, but: tuple[str, ...] = (), within: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name in set(expected) - set(but):
        torch.testing.assert_close(
            found[name], expected[name], rtol=within, atol=within, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("dataset", ["moons", "digits"])
def test_two_processes_train_a_network_like_one(place, tmp_path, dataset):
    """33 samples a batch: the last process has one less."""
    found, header = Place(tmp_path).fit_two(dataset, "rf")
    expected, one = place.model(dataset, "rf")
    assert_close(found, expected)
    assert header["status"] == "ok" and header["info"]["steps"] == STEPS
    losses, expected = (dict(h["info"]["curves"]["train"]) for h in (header, one))
    assert losses == pytest.approx(expected, abs=1e-5)
    assert header["info"]["flops_per_call"] == one["info"]["flops_per_call"]


def test_two_processes_train_codes_like_one(place, tmp_path):
    """The batch norm of the encoder's output sees the whole batch, and so do the codes' weights: w is the same."""
    expected, _ = place.fit_one("moons", "rf+qac")
    found, _ = beside(place, tmp_path).fit_two("moons", "rf+qac")
    # The norm takes the last bias away again: nothing depends on it but where the running mean lies.
    bias, mean = "method.beside.encoder.head.bias", "method.beside.rule.norm.running_mean"
    assert_close(found, expected, but=(bias, mean))
    torch.testing.assert_close(found[mean] - found[bias], expected[mean] - expected[bias], rtol=1e-5, atol=1e-5)
    for name in ("method.online.cells", "method.online.shares", "method.offline.cells", "method.offline.shares"):
        assert torch.equal(found[name], expected[name]), name


def test_two_processes_play_a_game_like_one(place, tmp_path, monkeypatch):
    """Generator and discriminator in turn, through five calls of the model that are made again on the way back, with
    spectral norms that move. In float64: what rounding does to a game grows with every turn, also on one process.
    """
    one, two = (beside(place, tmp_path / name) for name in ("one", "two"))
    one.one(in_float64, "moons", model="rf+mac-phi")
    run_stage = jobs.run_stage
    monkeypatch.setattr(
        jobs, "run_stage", lambda plan, layout, stage, *a, **k: run_stage(plan, layout, "tests.in_float64", *a, **k)
    )
    found, header = two.fit_two("moons", "rf+mac-phi")
    expected, _ = one.model("moons", "rf+mac-phi")
    assert header["status"] == "ok" and expected["method.phi.nn.mlp.0.weight"].dtype == torch.float64
    assert_close(found, expected, within=1e-9)


@pytest.mark.parametrize("dataset, model", [("digits", "rf"), ("moons", "rf+qac")])
def test_microbatches_train_like_whole_batches(place, tmp_path, dataset, model):
    expected, _ = place.fit_one(dataset, model)
    found, _ = beside(place, tmp_path, microbatch=8).fit_one(dataset, model)
    bias, mean = "method.beside.encoder.head.bias", "method.beside.rule.norm.running_mean"
    assert_close(found, expected, but=(bias, mean))


def test_two_processes_share_the_pairs_that_they_draw(place, tmp_path):
    """Three shards: one is drawn by one process alone, whole, and so has the same bits."""
    wanted = PairSet(2100, "euler", 2)
    at = {"model": "rf", "pairs": wanted.name}
    place.one(pairs, "moons", "pairs", **at)
    other = beside(place, tmp_path)
    other.two(jobs.pairs, Fitted.named("moons", 0, "rf"), wanted)
    folders = [p.layout.shards("moons", 0, "rf", wanted.series) for p in (place, other)]
    assert len(list(folders[0].iterdir())) == 3
    for file in folders[0].iterdir():
        assert torch.equal(load_tensors(folders[1] / file.name)[0]["x"], load_tensors(file)[0]["x"])


def test_a_process_that_is_killed_takes_the_job_with_it_and_the_job_goes_on(tmp_path, monkeypatch):
    """kill -9 of the second one after a checkpoint: the job starts again by itself; the bits are those of no kill."""
    budget = BUDGET | {"steps": 100}
    undisturbed, _ = Place(tmp_path / "undisturbed", train=budget).fit_two("moons", "rf")
    other, killed = Place(tmp_path / "killed", train=budget), []
    state = other.layout.state("fit", "moons", "seed0", "rf")
    monkeypatch.setenv("FEWSTEP_FORK_SERVER", "0")  # a process then has its job's file in its command

    def kill():
        end = time.monotonic() + 120
        while not any(state.glob("*/train.safetensors")) and time.monotonic() < end:
            time.sleep(0.002)
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if any(word.startswith(str(state)) and word.endswith("job1.json") for word in command):
                process.kill()
                killed.append(read_header(next(state.glob("*/train.safetensors")))["step"])

    thread = threading.Thread(target=kill)
    thread.start()
    found, header = other.fit_two("moons", "rf")
    thread.join()
    assert len(killed) == 1 and killed[0] < 100 and header["info"]["steps"] == 100
    assert all(torch.equal(found[name], undisturbed[name]) for name in undisturbed)


@pytest.mark.parametrize(
    "error, status, told",
    [
        ("MemoryError('too little')", "out_of_memory", "MemoryError: too little"),
        ("Diverged('too far')", "diverged", "too far"),
    ],
)
def test_what_one_process_raises_is_the_failure_of_the_job(surroundings, tmp_path, error, status, told):
    """The second one fails while the first waits for it."""
    write_failing(surroundings, error)
    place = Place(tmp_path, baselines=("rf", "fails"))
    place.two(jobs.fit, Fitted.named("moons", 0, "fails"))
    header = read_header(place.layout.model("moons", 0, "fails"))
    assert (header["status"], header["reason"]) == (status, told)


def test_bad_input_that_one_process_finds_is_told_and_nothing_recorded(surroundings, tmp_path):
    write_failing(surroundings, "WriteError('the disk is full')")
    place = Place(tmp_path, baselines=("rf", "fails"))
    with pytest.raises(UserError, match="the disk is full"):
        place.two(jobs.fit, Fitted.named("moons", 0, "fails"))
    assert not place.layout.model("moons", 0, "fails").exists()
