"""What jobs ask a cluster for, from the study alone."""

import math
from types import SimpleNamespace

import pytest

from fewstep import demands
from fewstep.config import make_study
from fewstep.dag import Dag
from fewstep.facts import DATASETS
from fewstep.plan import Plan

LIMITS = {"fit_minutes": 600, "point_minutes": 30}
NFE = [2, 4, 8]


def asked(dataset: str, stage: str, **section) -> dict[str, int]:
    """A job's resources, as Snakemake evaluates them."""
    chosen = {"baselines": ["rf"], "accelerators": [], "solvers": ["euler"], "controls": [], "nfe": NFE, **section}
    dag = Dag({"study": "a", "limits": LIMITS, "datasets": {dataset: chosen}})
    job = SimpleNamespace(dataset=dataset, seed="0", model="rf", **({"solver": "euler"} if stage in DRAWN else {}))
    return {name: value(job) if callable(value) else value for name, value in dag.resources(stage).items()}


DRAWN = ("sample", "part")
STAGES = ("data", "train", "pairs", "fit", "reference", "sample", "statistics", "score")
REAL = {"source": {"zip": "images.zip"}, "net": {"kind": "unet"}}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("dataset", ["moons", "cifar10"])
def test_a_study_for_processors_asks_for_no_gpu(dataset, stage):
    wanted = asked(dataset, stage, **(REAL if dataset == "cifar10" else {}))
    assert (wanted["gpu"], wanted["cpus_per_task"]) == (0, 1)
    assert "nodes" not in wanted  # a group of jobs would ask for their sum


def test_gpus_go_to_what_can_use_them():
    gpus = {stage: asked("cifar10", stage, **REAL, compute={"gpus": 4})["gpu"] for stage in STAGES}
    assert {stage for stage in STAGES if gpus[stage] == 4} == {"train", "pairs", "fit", "sample"}
    assert {stage for stage in STAGES if gpus[stage] == 1} == {"reference", "statistics", "score"}
    assert gpus["data"] == 0
    assert asked("cifar10", "train", **REAL, compute={"gpus": 4})["nodes"] == 1


def test_putting_parts_together_takes_no_gpu():
    compute = {"gpus": 2, "sampling_jobs": 8}
    assert asked("cifar10", "part", **REAL, compute=compute, block_size=10_000)["gpu"] == 2
    assert asked("cifar10", "sample", **REAL, compute=compute, block_size=10_000)["gpu"] == 0
    one_batch = asked("cifar10", "sample", **REAL, compute=compute, blocks=1, block_size=100)  # and so one job
    assert one_batch["gpu"] == 2


def test_the_harness_ends_a_job_before_the_cluster_does():
    for stage in ("train", "fit", "pairs", "reference"):
        assert asked("moons", stage)["runtime"] > LIMITS["fit_minutes"]
    assert asked("moons", "sample")["runtime"] > LIMITS["point_minutes"] * len(NFE)


def test_memory_holds_the_samples_and_the_features():
    n, facts = 50_000, DATASETS["ffhq64"]
    drawn = n * math.prod(facts.shape) * (4 + len(NFE)) / 1e6
    features = (facts.count + n) * 2048 * 8 / 1e6
    section = REAL | {"blocks": 5, "block_size": n // 5}
    assert asked("ffhq64", "sample", **section)["mem_mb"] > drawn
    assert asked("ffhq64", "score", **section)["mem_mb"] > drawn + features
    more = asked("ffhq64", "sample", **section, nfe_of={"euler": [*range(1, 20)]})["mem_mb"]
    assert more - drawn > n * math.prod(facts.shape) * (19 - len(NFE)) / 1e6
    some = {**REAL, "source": {"zip": "images.zip", "first": 1000}}
    spared = asked("ffhq64", "statistics", **REAL)["mem_mb"] - asked("ffhq64", "statistics", **some)["mem_mb"]
    assert spared > (facts.count - 1000) * 2048 * 8 / 1e6


def test_a_fit_asks_for_the_memory_of_all_pairs_in_each_of_its_processes():
    def megabytes(stage, **methods):
        section = {"baselines": ["rf"], "accelerators": ["rf+reflow"], "compute": {"gpus": 4}, "methods": methods}
        plan = Plan(make_study({"study": "one", "datasets": {"digits": {"net": {"kind": "unet"}, **section}}}))
        return demands.megabytes(plan, "digits", stage)

    few, many = ({"reflow": {"pairs": n, "pair_dtype": "uint8"}} for n in (10**6, 11 * 10**6))
    assert megabytes("fit", **many) - megabytes("fit", **few) == 4 * 640  # 64 bytes a pair
    assert megabytes("pairs", **many) - megabytes("pairs", **few) == 640
