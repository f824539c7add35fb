"""Workers end as they should and leave nothing behind, and a forked one differs from an ordinary one in nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from fewstep import forkserver
from fewstep.checkpoints import load_tensors
from fewstep.config import load_study
from fewstep.files import read_json, write_json
from fewstep.registry import ROOT
from fewstep.supervise import Outcome, run_worker

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="only Linux has fork servers")]

STAGE = """
import importlib, json, os, pathlib, random, resource, signal, sys, time
import numpy, torch
from fewstep.errors import UserError
from fewstep.forkserver import LIBRARIES

def facts():
    for library in LIBRARIES:  # some set variables
        importlib.import_module(library)
    status = pathlib.Path("/proc/self/status").read_text().splitlines()
    kept = ("Umask", "Groups", "SigBlk", "SigIgn", "SigCgt", "Threads", "Cpus_allowed")
    return {
        "status": [line for line in status if line.split(":")[0] in kept],
        "environ": dict(os.environ), "cwd": os.getcwd(), "path": sys.path, "argv": sys.argv[:1],
        "flags": list(sys.flags), "limits": [resource.getrlimit(i) for i in range(10)], "nice": os.nice(0),
        "files": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)),
        "opened": len(os.listdir("/proc/self/fd")), "main": sys.modules["__main__"].__file__,
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype()), torch.is_grad_enabled()],
    }

def chance():
    return [random.random(), torch.rand(()).item(), numpy.random.rand()]

def run(state_dir, what):
    state = pathlib.Path(state_dir)
    with (state / "pids").open("a") as file:
        print(os.getpid(), os.getppid(), file=file)
    match what:
        case "facts": (state / "facts.json").write_text(json.dumps([facts(), chance()]))
        case "print": print("to stdout"); print("to stderr", file=sys.stderr)
        case "refuse": raise UserError("bad input")
        case "raise": raise ValueError("two\\nlines")
        case "exit": os._exit(3)
        case "abort": os.kill(os.getpid(), signal.SIGTERM)
        case "kill": os.kill(os.getpid(), signal.SIGKILL)
        case "hang": time.sleep(1000)
"""
ENDS = {
    "print": ("ok", ""),
    "refuse": ("user_error", "bad input"),
    "raise": ("failed", "ValueError: two lines"),
    "exit": ("failed", "the worker ended with exit code 3 and no word"),
    "abort": ("failed", "killed by signal 15"),
    "kill": ("out_of_memory", "killed by signal 9, most often for lack of memory"),
    "hang": ("timeout", "no end after 8 s"),
}


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s"
        time.sleep(0.02)


def servers(owner: int) -> list[psutil.Process]:
    """The fork servers of an owner, with the watchers and workers that they forked."""
    name = forkserver.server_name(str(owner))
    return [process for process in psutil.process_iter(["cmdline"]) if name in (process.info["cmdline"] or [])]


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> Iterator[None]:
    """The module `odd_stage`, and the environment of a job."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "odd_stage.py").write_text(STAGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{folder}")
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")
        for name in ("COLUMNS", "LINES"):  # Python's own readline may set them behind os.environ
            patch.setenv(name, "80")
        yield


@pytest.fixture(scope="module")
def run_of_jobs(stages) -> Iterator[int]:
    """Stands in for a run of Snakemake: a process whose jobs may share a server."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()
    wait_for(lambda: not servers(process.pid), 5)


@pytest.fixture(params=["forked", "ordinary"])
def way(request, run_of_jobs, monkeypatch) -> str:
    """How workers start."""
    monkeypatch.setenv(forkserver.VARIABLE, str(run_of_jobs) if request.param == "forked" else "0")
    return request.param


@pytest.fixture
def forked(run_of_jobs, monkeypatch) -> int:
    """Workers are forked; the run's process id."""
    monkeypatch.setenv(forkserver.VARIABLE, str(run_of_jobs))
    return run_of_jobs


def odd(state: Path, what: str, limit: float = 60) -> Outcome:
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # differs from test to test; such a variable forbids to fork
    return run_worker("odd_stage", {"state_dir": str(state), "what": what}, state, limit)


def pids(state: Path) -> list[list[int]]:
    """Process id and parent of each worker that ran."""
    file = state / "pids"
    return [[int(word) for word in line.split()] for line in file.read_text().splitlines()] if file.exists() else []


def is_forked(state: Path, owner: int) -> bool:
    return pids(state)[-1][1] != os.getpid() and bool(servers(owner))


@pytest.mark.parametrize("what", ENDS)
def test_each_end_is_told(way, tmp_path, what, capfd):
    outcome = odd(tmp_path, what, limit=8 if what == "hang" else 120)
    assert (outcome.status, outcome.reason) == ENDS[what]
    workers = pids(tmp_path)
    assert len(workers) == (2 if what == "kill" else 1)  # killed from outside: started once more
    assert all((parent == os.getpid()) == (way == "ordinary") for _, parent in workers)
    assert not any(psutil.pid_exists(worker) for worker, _ in workers)
    if what == "print":
        assert capfd.readouterr() == ("to stdout\n", "to stderr\n")


def test_a_forked_worker_sees_what_an_ordinary_one_sees(forked, tmp_path, monkeypatch):
    """Environment, folder, limits, open files, signals, threads and PyTorch's settings."""
    seen = []
    for name in ("ordinary", "first", "second"):
        with monkeypatch.context() as patch:
            if name == "ordinary":
                patch.setattr(forkserver, "start", lambda job: None)
            assert odd(tmp_path / name, "facts").ok
        assert is_forked(tmp_path / name, forked) == (name != "ordinary")
        seen.append(read_json(tmp_path / name / "facts.json"))
    (ordinary, _), (first, random), (second, other) = seen
    assert first == ordinary == second
    assert not set(random) & set(other)  # the global generators are no more alike than in two new processes


def test_a_forked_worker_starts_at_once(forked, tmp_path):
    """It doesn't import PyTorch: that takes more than a second of CPU."""
    assert odd(tmp_path, "facts").ok
    server = min(servers(forked), key=lambda process: process.create_time())
    before = resource_seconds(server)
    children = os.times()
    assert odd(tmp_path, "facts").ok
    assert is_forked(tmp_path, forked)
    assert os.times().children_user == children.children_user
    assert resource_seconds(server) - before < 0.5


def resource_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def test_results_are_the_same_bit_for_bit(run_of_jobs, tmp_path, monkeypatch):
    """A fit and its samples, with forked workers and with ordinary ones."""
    section = {"baselines": ["rf"], "accelerators": [], "solvers": ["euler", "amed"], "nfe": [4], "block_size": 64}
    section |= {
        "methods": {"amed": {"trajectories": 8, "batch": 8, "updates": 4}},
        "blocks": 1,
        "net": {"kind": "mlp", "width": 16, "depth": 1},
        "train": {"steps": 30, "batch": 32},
    }
    write_json(tmp_path / "tiny.json", {"study": "tiny", "datasets": {"moons": section}})
    write_json(tmp_path / "study.json", load_study(tmp_path / "tiny.json").model_dump())
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    found = {}
    for way, owner in (("forked", run_of_jobs), ("ordinary", 0)):
        monkeypatch.setenv(forkserver.VARIABLE, str(owner))
        results = tmp_path / way
        job = {"study": str(tmp_path / "study.json"), "results": str(results), "dataset": "moons", "seed": 0}
        job |= {"model": "rf", "threads": 1}
        for solver in (None, "euler", "amed"):
            state = results / "state" / str(solver)
            stage, more = "fit", {}
            if solver:
                stage, more = "sample", {"solver": solver, "output": str(results / f"{solver}.safetensors")}
            outcome = run_worker(f"fewstep.stages.{stage}", {**job, **more, "state_dir": str(state)}, state, 200)
            assert outcome.ok, outcome
        files = [
            results / "models/moons/seed0/rf.safetensors",
            results / "euler.safetensors",
            results / "amed.safetensors",
        ]
        found[way] = [load_tensors(file) for file in files]
    for (tensors, header), (others, other) in zip(found["forked"], found["ordinary"], strict=True):
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)
        assert timeless(header) == timeless(other)


def timeless(value: object) -> object:
    """Without what two equal runs differ in."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if "seconds" not in key and key != "started"}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def asker(state: Path) -> subprocess.Popen:
    """Another process that runs a worker which hangs."""
    code = "import sys; from pathlib import Path; from fewstep.supervise import run_worker; state = Path(sys.argv[1]); "
    code += "run_worker('odd_stage', {'state_dir': str(state), 'what': 'hang'}, state, 1000)"
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    process = subprocess.Popen([sys.executable, "-c", code, str(state)])
    wait_for(lambda: pids(state))
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_ends_with_whoever_asked_for_it(way, tmp_path, how):
    with asker(tmp_path) as process:
        ((worker, parent),) = pids(tmp_path)
        assert (parent == process.pid) == (way == "ordinary")
        process.send_signal(how)
        assert process.wait(20) == (143 if how == signal.SIGTERM else -how)
    wait_for(lambda: not psutil.pid_exists(worker), 5)
    assert len(pids(tmp_path)) == 1


def test_killed_helpers_of_a_worker(forked, tmp_path):
    """Without its watcher a worker ends, and is started again; without the server it goes on."""
    with asker(tmp_path) as process:
        ((worker, watcher),) = pids(tmp_path)
        server = psutil.Process(watcher).ppid()
        os.kill(server, signal.SIGKILL)
        time.sleep(1)
        assert psutil.pid_exists(worker) and len(pids(tmp_path)) == 1
        os.kill(watcher, signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(worker), 5)
        wait_for(lambda: len(pids(tmp_path)) == 2)  # forked by another server
        assert pids(tmp_path)[1][1] not in (process.pid, watcher)
        process.kill()


def test_a_server_ends_with_its_run(stages, tmp_path, monkeypatch):
    """Two runs have a server each; one that is killed leaves none behind, and its job goes on to be told the end."""
    with subprocess.Popen(["sleep", "1000"]) as one, subprocess.Popen(["sleep", "1000"]) as two:
        for run in (one, two):
            monkeypatch.setenv(forkserver.VARIABLE, str(run.pid))
            assert odd(tmp_path / str(run.pid), "print").ok
            assert is_forked(tmp_path / str(run.pid), run.pid)
        one.kill()
        wait_for(lambda: not servers(one.pid), 2)
        assert servers(two.pid)
        one.wait()
        monkeypatch.setenv(forkserver.VARIABLE, str(one.pid))  # a run that is over: its last job works as ever
        assert odd(tmp_path / "late", "print").ok
        assert pids(tmp_path / "late")[0][1] == os.getpid()
        two.kill()
        wait_for(lambda: not servers(two.pid), 2)


def test_other_surroundings_get_an_ordinary_worker(forked, tmp_path, monkeypatch):
    changes: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
        "environment": lambda patch: patch.setenv("OMP_NUM_THREADS", "2"),
        "folder": lambda patch: patch.chdir(tmp_path),
        "a GPU": lambda patch: patch.setattr(forkserver, "GPUS", ("null",)),
        "no run": lambda patch: patch.delenv(forkserver.VARIABLE),
        "no number": lambda patch: patch.setenv(forkserver.VARIABLE, "off"),
        "another user's server": lambda patch: patch.setattr(forkserver, "_same_user", lambda connection: False),
    }
    for name, change in changes.items():
        with monkeypatch.context() as patch:
            change(patch)
            assert odd(tmp_path / name, "print").ok
        assert pids(tmp_path / name)[0][1] == os.getpid(), name
    assert odd(tmp_path / "as before", "print").ok
    assert is_forked(tmp_path / "as before", forked)
    assert pids(tmp_path / "as before")[0][1] != os.getpid()


def test_a_server_with_threads_forks_nothing(stages, tmp_path, monkeypatch):
    """A lock that another thread holds would never be released in a forked worker."""
    code = "import sys, threading, time; from fewstep import forkserver; "
    code += "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); "
    code += "forkserver.serve(sys.argv[1], int(sys.argv[2]))"
    monkeypatch.setenv(forkserver.VARIABLE, str(os.getpid()))
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    name = forkserver.server_name(str(os.getpid()))
    with subprocess.Popen([sys.executable, "-c", code, name, str(os.getpid())]) as server:
        wait_for(lambda: f"@{name}" in Path("/proc/net/unix").read_text())
        assert odd(tmp_path, "print").ok
        assert pids(tmp_path)[0][1] == os.getpid()
        assert server.poll() is None
        server.kill()


def test_the_job_is_written_whole(forked, tmp_path):
    """Folders with spaces and other letters."""
    state = tmp_path / "ein Ördner\nmit Zeilen"
    assert odd(state, "facts").ok
    assert json.loads((state / "outcome.json").read_text())["status"] == "ok"
    assert pids(state)[0][1] != os.getpid()
