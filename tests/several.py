"""A study's jobs by one process and by two, for tests that compare what they make.

Two real processes talk by gloo, as a job's worker starts them; the one that they're compared with is the test's own.
"""

import contextlib
import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewstep import device, jobs
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.config import make_study
from fewstep.files import write_json
from fewstep.layout import Layout
from fewstep.plan import Fitted, Plan
from fewstep.stages import fit

STEPS = 24
LEARNS = "gits"  # a solver that is fitted first
BUDGET = {"steps": STEPS, "batch": 33, "warmup": 4, "checkpoint_seconds": 0.05}
STUDY = {
    "study": "distributed",
    "defaults": {
        "blocks": 1, "block_size": 30, "batch": 4, "probes": 6, "nfe": [1, 5], "controls": [],
        "train": BUDGET, "fit": BUDGET,
    },
    "datasets": {
        "moons": {
            "baselines": ["rf"], "accelerators": ["qac", "mac-phi"], "net": {"kind": "mlp", "width": 32},
            "solvers": {"rf": ["euler", LEARNS], "others": []},
            # The rate of the paper's CIFAR-10; at that of 2-D data the game is chaos: 1e-15 grow to 1e-3 in 20 steps.
            "methods": {"mac-phi": {"lr_phi": 1e-4, "checkpoint": True}},
        },
        "digits": {
            "baselines": ["rf"], "accelerators": [], "solvers": ["euler"],
            "net": {"kind": "unet", "channels": 8, "attention": [4]},
        },
    },
}  # fmt: skip


@contextlib.contextmanager
def of_two_processes(**variables: str) -> Iterator[None]:
    """Inside, jobs have two processes each, forked from a server of their own, which ends with its owner."""
    with subprocess.Popen(["sleep", "1000"]) as owner, pytest.MonkeyPatch.context() as patch:
        for name, value in {"FEWSTEP_FORK_SERVER": str(owner.pid), device.CPU_PROCESSES: "2", **variables}.items():
            patch.setenv(name, value)
        try:
            yield
        finally:
            owner.kill()


class Place:
    """A study's jobs in a folder: `two` by jobs of two processes, `one` in this process."""

    def __init__(self, root: Path, train: dict = BUDGET, baselines: tuple[str, ...] = ("rf",), **compute):
        root.mkdir(exist_ok=True)
        self.root, self.layout = root, Layout(root / "results")
        content = copy.deepcopy(STUDY)
        content["defaults"] |= {"train": train, "compute": compute}
        content["datasets"]["moons"]["baselines"] = list(baselines)
        self.plan = Plan(make_study(content))
        write_json(root / "study.json", self.plan.study.model_dump())

    def one(self, stage, dataset: str, name: str = "one", **arguments):
        """Run a stage, with one device."""
        state = self.root / f"state-{name}"
        state.mkdir(exist_ok=True)
        job = {"study": str(self.root / "study.json"), "results": str(self.layout.root), "seed": 0, "threads": 1}
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv(device.CPU_PROCESSES, raising=False)
            stage.run(**job, dataset=dataset, state_dir=str(state), **arguments)

    def fit_one(self, dataset: str, model: str):
        self.one(fit, dataset, f"{dataset}-{model}", model=model)
        return self.model(dataset, model)

    def two(self, job, *arguments, **options):
        """Run a job, with two devices; its processes come from a server where none of pytest's variables differ."""
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("PYTEST_CURRENT_TEST")
            job(self.plan, self.layout, *arguments, threads=1, **options)

    def fit_two(self, dataset: str, model: str):
        self.two(jobs.fit, Fitted.named(dataset, 0, model))
        return self.model(dataset, model)

    def model(self, dataset: str, model: str):
        return load_tensors(self.layout.model(dataset, 0, model))


def trained(root: Path) -> Place:
    """A place with the baselines that one process trained."""
    place = Place(root)
    for dataset in STUDY["datasets"]:
        place.fit_one(dataset, "rf")
    return place


def beside(place: Place, folder: Path, **compute) -> Place:
    """Another folder with the same trained baselines."""
    other = Place(folder, **compute)
    for dataset in STUDY["datasets"]:
        tensors, header = place.model(dataset, "rf")
        save_tensors(other.layout.model(dataset, 0, "rf"), tensors, header)
    return other
