"""What a study is said to cost: against sums done by hand, published sizes, and a run that was measured."""

import json
import math

import pandas as pd
import pytest
import yaml

from evaluation.extractors import EXTRACTORS as JUDGES
from evaluation.metrics import nearest, prdc
from fewstep import registry
from fewstep.__main__ import run
from fewstep.config import ADM, SongUNet, make_study
from fewstep.costs import disk, judging, machines, memory
from fewstep.costs.networks import EXACT, measure
from fewstep.costs.report import hours
from fewstep.costs.work import CONVERGED, work
from fewstep.errors import UserError
from fewstep.facts import DATASETS, EXTRACTORS
from fewstep.files import write_json
from fewstep.layout import Layout
from fewstep.plan import Plan

DEFAULT = registry.ROOT / "results" / "published" / "default"
CPU = machines.MACHINES["cpu"]


def plan_of(**moons) -> Plan:
    section = {"baselines": ["rf"], "accelerators": [], "solvers": ["euler"], "controls": [], "nfe": [1, 4], **moons}
    section = {"net": {"kind": "mlp", "width": 16, "depth": 2}, "train": {"steps": 20, "batch": 32}, **section}
    return Plan(make_study({"study": "tiny", "datasets": {"moons": section}}))


def jobs_of(plan: Plan, stage: str):
    return [job for job in work(plan) if job.stage == stage]


# Networks


def test_an_mlps_flops_are_those_of_its_matrices():
    """Two a multiplication with its addition: x -> 128 -> 128 -> 128 -> x, and the embedding's 32 -> 3 × 128."""
    size = measure({"kind": "mlp", "width": 128, "depth": 3, "embedding_channels": 32}, (2,))
    hidden = 2 * 128 + 128 * 128 + 128 * 128 + 128 * 2
    embedding = 32 * 3 * 128
    assert size.flops == pytest.approx(2 * (hidden + embedding), rel=0.05)  # and the embedding's own two small layers
    assert size.flops > 2 * (hidden + embedding) - 1


@pytest.mark.parametrize(
    ("net", "shape", "classes", "parameters", "multiplications"),
    [
        (SongUNet(kind="song"), (3, 32, 32), 0, 55.7e6, 21.2e9),  # EDM's DDPM++ on CIFAR-10
        (ADM(kind="adm"), (3, 64, 64), 1000, 295.9e6, 104e9),  # Dhariwal and Nichol's on ImageNet-64
    ],
)
def test_published_networks_have_the_published_size(net, shape, classes, parameters, multiplications):
    size = measure(net.model_dump(), shape, classes)
    assert size.parameters == pytest.approx(parameters, rel=1e-3)
    assert size.flops == pytest.approx(2 * multiplications, rel=0.06)


def test_a_class_and_an_augmentation_reach_the_network():
    net = {"kind": "unet", "channels": 8, "multipliers": [1]}
    plain = measure(net, (3, 16, 16)).parameters
    assert plain < measure(net, (3, 16, 16), classes=10).parameters
    assert plain < measure(net, (3, 16, 16), augmented=True).parameters


# Network calls


def test_a_step_is_three_calls_a_sample_and_sampling_the_sum_of_its_nfe():
    plan = plan_of(blocks=2, block_size=50, batch=30, probes=8, curvature_steps=16)
    (train,), (sample,), (reference,) = (jobs_of(plan, stage) for stage in ("train", "sample", "reference"))
    assert train.calls == 3 * 20 * 32 and train.batches == 3 * 20
    assert sample.calls == 100 * (1 + 4) and sample.batches == 4 * (1 + 4)  # 30 + 30 + 30 + 10
    assert reference.calls == 8 * (16 + CONVERGED)


def test_pairs_and_fits_that_build_on_others():
    methods = {"reflow": {"pairs": 2048, "pair_nfe": 9}}
    budgets = {"reflow": {"steps": 7, "batch": 8}, "rf+reflow-2": {"steps": 5}}
    plan = plan_of(accelerators=["reflow", "reflow-2"], methods=methods, budgets=budgets)
    assert [job.calls for job in jobs_of(plan, "pairs")] == [2048 * 9] * 2
    assert [job.calls for job in jobs_of(plan, "fit")] == [3 * 7 * 8, 3 * 5 * 8]


def test_an_adversarial_fit_runs_the_whole_sampler():
    """A step of phi goes back through N calls, one of psi samples once more, one of theta takes a single call."""
    methods = {"mac": {"batch_theta": 3, "batch_phi": 5, "batch_psi": 7}}
    names = ["rf+mac", "rf+mac-phi", "rf+mac-theta"]
    plan = plan_of(accelerators=names, methods=methods, nfe=[4, 5], fit={"steps": 10, "batch": 8})
    joint, phi, theta = (job.calls for job in jobs_of(plan, "fit"))
    assert joint == 10 * (3 * 3 + 5 * 3 * 5 + 5 * 7)
    assert (phi, theta) == (10 * (5 * 3 * 5 + 5 * 7), 10 * (3 * 3 + 5 * 7))


def test_solvers_that_learn_count_what_they_learn_by():
    """As the published run measured it."""
    records = pd.read_parquet(DEFAULT / "records.parquet")
    points = records[records["dataset"] == "digits"].drop_duplicates(["entrant", "nfe"])
    for solver in ("gits", "bellman", "dpm_solver_v3", "rk45", "bespoke"):
        rows = points[points["entrant"] == f"rf/{solver}"]
        method, nfes = registry.get(solver, "solver"), [int(n) for n in rows["nfe"]]
        told = method.verb("cost")(method.params("digits"), nfes)
        backward = 4 if solver == "bespoke" else 1.3  # its count leaves backward passes out
        assert 1 / 1.3 < told / rows["fit_teacher_calls"].max() < backward, solver


def test_what_is_read_from_a_checkpoint_or_known_exactly_is_not_trained():
    plan = plan_of(pretrained={"rf": {"path": "rf.pkl"}})
    assert [job.calls for job in jobs_of(plan, "train")] == [0]
    exact = Plan(make_study({"study": "t", "datasets": {"mixture": {"baselines": ["rf"], "solvers": ["euler"]}}}))
    assert {job.calls for job in jobs_of(exact, "train")} == {0}
    assert {job.size for job in jobs_of(exact, "sample")} == {EXACT}


# Time


def test_the_default_study_is_estimated_within_a_factor_of_two_of_a_measured_run():
    plan = Plan(make_study(json.loads((DEFAULT / "study.json").read_text())))
    records = pd.read_parquet(DEFAULT / "records.parquet")
    points = records[records["kind"] != "reference"].drop_duplicates(["dataset", "entrant", "nfe"])
    fits = points.drop_duplicates(["dataset", "entrant"])["fit_seconds"].fillna(0)
    measured = (points["seconds_per_sample"] * points["n_samples"]).sum() + fits.sum()
    told = sum(job.on(CPU) - CPU.start for job in jobs_of(plan, "sample"))
    assert 0.5 < told / measured < 2
    models = pd.read_csv(DEFAULT / "models.csv")
    chained = models["model"].isin(["rf+reflow-2", "rf+reflow-distilled"])  # whose time holds their parent's
    told = sum(job.on(CPU) - CPU.start for stage in ("train", "fit", "pairs") for job in jobs_of(plan, stage))
    assert 0.5 < told / models.loc[~chained, "fit_seconds"].sum() < 2
    assert 0.5 < hours(work(plan), CPU) * 60 / 37 < 2  # minutes of all its jobs by Snakemake's benchmark files


def test_a_device_is_faster_the_higher_its_peak_and_small_networks_wait_for_its_operations():
    a100, h100 = machines.MACHINES["a100"], machines.MACHINES["h100"]
    assert h100.seconds(1e18, 0, half=True) < a100.seconds(1e18, 0, half=True) < a100.seconds(1e18, 0, half=False)
    assert a100.seconds(1e6, 1000, half=True) == pytest.approx(1000 * a100.operation, rel=0.01)
    with pytest.raises(UserError, match="h100"):
        machines.machine("h1000")


# Disk and memory


def test_disk_is_what_a_run_writes(tmp_path):
    net, fit = {"kind": "mlp", "width": 64, "depth": 3}, {"steps": 2, "batch": 8, "warmup": 0}
    methods = {"reflow": {"pairs": 1024, "pair_nfe": 3}}
    sizes = {"block_size": 200, "blocks": 2, "probes": 32}
    plan = plan_of(accelerators=["reflow"], methods=methods, net=net, train=fit, fit=fit, **sizes)
    layout = Layout(tmp_path / "results")
    before = disk.still_needed(plan, layout)
    run_all(plan, layout, tmp_path)
    told = dict.fromkeys(("models", "pairs", "samples"), 0.0)
    for file in disk.files(plan, layout):
        if file.kind in told:
            told[file.kind] += file.bytes
    for kind, estimate in told.items():
        found = sum(file.stat().st_size for file in (layout.root / kind).rglob("*.safetensors"))
        assert 1 / 1.5 < estimate / found < 1.5, kind
    assert before - disk.still_needed(plan, layout) == pytest.approx(sum(told.values()))


def run_all(plan: Plan, layout: Layout, folder) -> None:
    """The models, pairs and samples of a plan for moons, in this process."""
    from fewstep.stages import fit, pairs, sample

    write_json(folder / "study.json", plan.study.model_dump())
    shared = {
        "study": str(folder / "study.json"),
        "results": str(layout.root),
        "dataset": "moons",
        "seed": 0,
        "threads": 1,
    }

    def state(name: str) -> dict[str, str]:
        (folder / name).mkdir()
        return shared | {"state_dir": str(folder / name)}

    for fitted in plan.fitted:
        if drawn := plan.pair_set(fitted):
            pairs.run(model="rf", pairs=drawn.name, **state("pairs"))
        fit.run(model=fitted.model, **state(fitted.model))
    for entrant in plan.entrants:
        output = layout.samples("moons", 0, entrant.model, entrant.solver)
        sample.run(model=entrant.model, solver=entrant.solver, output=str(output), **state(f"{entrant.model}-samples"))


def test_pairs_that_a_killed_run_left_need_no_room_again(tmp_path):
    plan, layout = plan_of(accelerators=["reflow"], methods={"reflow": {"pairs": 4096}}), Layout(tmp_path)
    before = disk.still_needed(plan, layout)
    shards = layout.shards("moons", 0, "rf", plan.pair_set(plan.fitted[1]).series)
    shards.mkdir(parents=True)
    (shards / "0.safetensors").write_bytes(bytes(5000))
    assert before - disk.still_needed(plan, layout) == 5000


def test_free_space_is_that_of_the_disk_where_the_folder_will_be(tmp_path):
    assert disk.free(tmp_path / "not" / "there" / "yet") == pytest.approx(disk.free(tmp_path), rel=0.01)


def test_features_have_the_length_that_the_judges_give_them():
    assert set(judging.FEATURE_GFLOP) == set(judging.FEATURE_LENGTH) == set(EXTRACTORS)
    assert {name: judge.dim for name, judge in JUDGES.items()} == judging.FEATURE_LENGTH


def test_metrics_on_features_are_counted_up_to_the_number_that_they_take():
    """Distances of samples to each other and to references for `prdc`, to the whole reference set for `nearest`."""
    assert judging.LOOKED_UP == prdc.LIMIT == nearest.LIMIT

    def pairs(metric: str, size: int, references: int) -> float:
        seconds = (
            judging.block_seconds(DATASETS["cifar10"], size, references, ["inception"], ["fd", *more])
            for more in ([metric], [])
        )
        return (next(seconds) - next(seconds)) * judging.CORE / (2 * 2048)

    most = judging.LOOKED_UP
    assert pairs("prdc", 300, 2000) == pytest.approx(300 * (300 + 2000))
    assert pairs("prdc", 5 * most, 7 * most) == pytest.approx(2 * most**2)
    assert pairs("nearest", 300, 2000) == pytest.approx(300 * 2000)
    assert pairs("nearest", 5 * most, 7 * most) == pytest.approx(7 * most**2)


def test_memory_of_a_fit_holds_its_pairs_in_each_process():
    methods = {"reflow": {"pairs": 10**6}}
    one, four = (
        memory.on_host(plan_of(accelerators=["reflow"], methods=methods, compute={"gpus": n}), "moons") for n in (1, 4)
    )
    assert four - one == pytest.approx(3 * 10**6 * 2 * 4)


# The command


def printed(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        run(list(arguments))
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_plan_tells_all_of_it_before_anything_starts(tmp_path, capsys):
    file = tmp_path / "tiny.json"
    write_json(file, {**plan_of(accelerators=["reflow"]).study.model_dump(), "results": str(tmp_path / "results")})
    text = printed(capsys, "plan", str(file), "--device", "a100")
    assert text == printed(capsys, "plan", "--study", str(file), "--device", "a100")
    for word in ("rf+reflow", "pairs rf/heun", "> A100", "GPU minutes", "disk:", "memory:", "TFLOP/s", "parameters"):
        assert word in text
    assert not (tmp_path / "results").exists()


def test_every_study_is_estimated(capsys):
    for file in sorted((registry.ROOT / "studies").glob("*.yaml")):
        study = yaml.safe_load(file.read_text())["study"]
        text = printed(capsys, "plan", str(file), "--device", "h100")
        assert text.startswith(f"study {study}:") and "nan" not in text and "inf" not in text.split()


def test_half_an_hour_of_a_large_gpu_is_enough_for_the_study_of_that_name():
    from fewstep.config import load_study

    plan = Plan(load_study(registry.ROOT / "studies" / "gpu-30min.yaml"))
    assert hours(work(plan), machines.MACHINES["h200"]) * 60 < 28
    assert math.isfinite(memory.on_device(plan, plan.fitted[0]))
