"""A copy of the tree to run Snakemake in, and a study that takes seconds."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pandas as pd
import psutil
import yaml

from fewstep.errors import CheckpointError
from fewstep.headers import read_header

ROOT = Path(__file__).resolve().parents[2]
NOT_CODE = (".venv", "results", ".git", ".snakemake", ".pytest_cache", ".ruff_cache", "__pycache__")
SECONDS = re.compile("seconds")  # columns that differ between two runs of the same study

BUDGET = {"steps": 20, "batch": 32, "warmup": 5}
TINY = {
    "study": "tiny",
    "results": "results/tiny",
    "defaults": {
        "blocks": 2,
        "block_size": 50,
        "probes": 16,
        "curvature_steps": 16,
        "nfe": [1, 3],
        "net": {"kind": "mlp", "width": 16, "depth": 2},
        "train": BUDGET,
        "fit": BUDGET,
    },
    "datasets": {
        "moons": {
            "baselines": ["rf"],
            "accelerators": ["reflow"],
            "solvers": ["euler", "heun"],
            "controls": ["noise"],
            "methods": {"reflow": {"pairs": 64, "pair_nfe": 5}},
        },
        "eight_gaussians": {"baselines": ["rf"], "accelerators": [], "solvers": ["euler"], "controls": []},
    },
}

# What is drawn anew whenever a score has changed.
SUMMARIES = {"leaderboard", "figures_moons", "figures_eight_gaussians", "tables", "site", "verdict"}


def wait_for(condition: Callable[[], object], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


class Watch:
    """Collects the step of every checkpoint of the training `name` that appears below a job's state folder."""

    def __init__(self, state: Path, name: str = "train"):
        self.state, self.name, self.steps, self._stop = state, name, [0], Event()
        self._thread = Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.05):
            for file in self.state.glob(f"*/{self.name}.safetensors"):
                try:
                    step = read_header(file)["step"]
                except CheckpointError:  # removed in this moment: the run has ended
                    continue
                if step != self.steps[-1]:
                    self.steps.append(step)


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """A process with all that it started."""
    root = psutil.Process(process.pid)
    return [root, *root.children(recursive=True)]


def kill(processes: list[psutil.Process]) -> None:
    """kill -9, each."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


class Workspace:
    """A copy of the tree; commands run in it as a user would type them."""

    def __init__(self, root: Path):
        self.root, self.study = root, root / "tiny.yaml"
        self.results = root / TINY["results"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        for name in ("PYTHONPATH", "FEWSTEP_METHODS", "SNAKEMAKE_PROFILE"):
            self.env.pop(name, None)

    @classmethod
    def fresh(cls, root: Path) -> Workspace:
        """The tree without results, with the tiny study."""
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*NOT_CODE), symlinks=True)
        workspace = cls(root)
        workspace.write_study(TINY)
        return workspace

    def copy(self, root: Path) -> Workspace:
        """A copy with everything that Snakemake remembers; times are kept, so nothing is out of date."""
        shutil.copytree(self.root, root, symlinks=True)
        return Workspace(root)

    def write_study(self, content: dict[str, Any]) -> None:
        self.study.write_text(yaml.safe_dump(content, sort_keys=False))

    def command(self, *options: str) -> list[str]:
        return ["snakemake", "--cores", "2", "--configfile", str(self.study), *options]

    def snakemake(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; stdout holds stderr too."""
        return self.call(self.command(*options))

    def fewstep(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.call([sys.executable, "-m", "fewstep", *options], PYTHONPATH=str(self.root))

    def call(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; one that a test's time limit cuts short leaves nothing running."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(command, cwd=self.root, env=self.env | env, **options) as process:
            try:
                out, _ = process.communicate()
            except BaseException:
                kill(family(process))
                raise
        return subprocess.CompletedProcess(command, process.returncode, out)

    def start(self, command: list[str], log: Path, **env: str) -> subprocess.Popen:
        """Start a command in a session of its own, so that all of it can be killed."""
        with log.open("ab") as out:
            options = {"stdout": out, "stderr": out, "start_new_session": True}
            return subprocess.Popen(command, cwd=self.root, env=self.env | env, **options)

    def jobs(self, *options: str) -> set[str]:
        """What Snakemake would run, as `sample moons rf euler`: rule and wildcards."""
        done = self.snakemake("-n", *options)
        assert done.returncode == 0, done.stdout
        found = set()
        for block in re.split(r"^ *(?=(?:local)?rule )", done.stdout, flags=re.M)[1:]:  # a group's are indented
            rule = re.match(r"(?:local)?rule (\w+)", block).group(1)
            wildcards = re.search(r"^ +wildcards: (.*)$", block, flags=re.M)
            values = [part.split("=")[1] for part in wildcards.group(1).split(", ")] if wildcards else []
            found.add(" ".join([rule, *(value for value in values if not value.isdigit())]))
        return found - {"all"}

    def board(self) -> pd.DataFrame:
        """The leaderboard, indexed by point."""
        table = pd.read_csv(self.results / "leaderboard.csv", keep_default_na=False, na_values=[""])
        return table.set_index(["dataset", "entrant", "nfe"]).sort_index()

    def assert_same_numbers(self, other: Workspace, dataset: str) -> None:
        """One dataset's rows equal another run's in all but what two equal runs may differ in: seconds."""
        mine, theirs = self.board().loc[[dataset]], other.board().loc[[dataset]]
        names = [name for name in mine if not SECONDS.search(name)]
        assert {"mean", "status", "curvature"} <= set(names)
        # A column of integers with a gap in another dataset is read as floats.
        pd.testing.assert_frame_equal(mine[names], theirs[names], check_dtype=False, rtol=0, atol=0)
