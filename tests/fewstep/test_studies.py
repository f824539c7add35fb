"""The studies that come with the program: each one plans, and those of the papers' scale have the papers' settings."""

import math

import pytest

from fewstep import registry
from fewstep.config import load_study, make_study
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.plan import Fitted, Plan

FILES = {file.stem: file for file in (registry.ROOT / "studies").glob("*.yaml")}
PAPERS = ["cifar10", "ffhq64", "afhqv2-64", "imagenet64"]


def plan_of(name: str) -> Plan:
    return Plan(load_study(FILES[name]))


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_study_plans(name):
    plan = plan_of(name)
    assert plan.study.study == name and plan.study.results == f"results/{name}"
    assert plan.entrants and all(entrant.nfes for entrant in plan.entrants)
    for fitted in plan.fitted:
        assert plan.budget(fitted).steps > 0


def test_presets_for_datasets_name_datasets():
    for method in registry.discover().values():
        assert set(method.card.datasets) <= set(DATASETS), method.id


def test_the_studies_name_the_files_of_every_real_dataset():
    for name in PAPERS:
        for dataset, section in plan_of(name).study.datasets.items():
            assert DATASETS[dataset].real and section.source is not None


# What the papers print, in images: EDM's tables 6 and 7 with its repository's README.
@pytest.mark.parametrize(
    ("study", "dataset", "images", "warm_up", "half_life", "parameters"),
    [
        ("cifar10", "cifar10", 200e6, 10e6, 0.5e6, {"lr": 1e-3, "batch": 512}),
        ("cifar10", "cifar10_cond", 200e6, 10e6, 0.5e6, {"lr": 1e-3, "batch": 512}),
        ("ffhq64", "ffhq64", 200e6, 10e6, 0.5e6, {"lr": 2e-4, "batch": 256}),
        ("afhqv2-64", "afhqv2_64", 200e6, 10e6, 0.5e6, {"lr": 2e-4, "batch": 256}),
        ("imagenet64", "imagenet64", 2500e6, 10e6, 50e6, {"lr": 1e-4, "batch": 4096}),
    ],
)
def test_edm_trains_as_published(study, dataset, images, warm_up, half_life, parameters):
    plan = plan_of(study)
    budget = plan.budget(Fitted(dataset, 0, "edm"))
    assert budget.model_dump().items() >= {**parameters, "clip": None, "decay": "constant"}.items()
    assert budget.steps * budget.batch == pytest.approx(images, rel=1e-4)
    assert budget.warmup * budget.batch == pytest.approx(warm_up, rel=1e-3)
    assert math.log(0.5) / math.log(budget.ema) * budget.batch == pytest.approx(half_life, rel=0.02)
    section = plan.section(dataset)
    assert (section.blocks, section.block_size) == (3, 50000)
    assert plan.params(dataset, registry.get("edm", "baseline"))["sigma_data"] == 0.5


@pytest.mark.parametrize(
    ("model", "steps", "batch", "params"),
    [
        ("rf+reflow", 300_000, 128, {"pairs": 4_000_000, "pair_solver": "rk45-tol5"}),
        ("edm+rfpp-f", 800_000, 512, {"pairs": 1_000_000, "pair_nfe": 35, "a": 4}),
        ("edm+rfpp-g", 5_000, 512, {"inversion_nfe": 128}),
        ("rf+boss", 12_000, 15, {"pairs": 5000, "pair_nfe": 100, "held_out": 0.1}),
        ("rf+rne", 500_000, 128, {"beta": 20.0, "width": 0.25, "depth": 0.5}),
        ("rf+qac", 500_000, 128, {"dimensions": 20, "levels": 2}),
        ("edm+qac", 390_625, 512, {"dimensions": 20, "levels": 2}),
        ("edm+mac-gamma-joint", 15_625, 128, {"batch_theta": 512, "batch_phi": 128, "batch_psi": 512}),
        ("edm+mac-gamma", 390_625, 512, {"lr_theta": 1e-5, "lr_phi": 1e-4, "lr_psi": 2e-3}),
        ("si+mac-gamma", 500_000, 128, {"basis": 5}),
    ],
)
def test_accelerators_on_cifar10_have_their_papers_budgets(model, steps, batch, params):
    plan, fitted = plan_of("cifar10"), Fitted.named("cifar10", 0, model)
    assert fitted in plan.fitted
    budget = plan.budget(fitted)
    assert (budget.steps, budget.batch) == (steps, batch)
    assert plan.params("cifar10", fitted.accelerator_method).items() >= params.items()


# Budgets and NFE of single methods


def small(**section) -> Plan:
    section = {"baselines": ["rf", "edm"], "solvers": ["euler", "heun"], "nfe": [2, 5], **section}
    return Plan(make_study({"study": "t", "datasets": {"moons": {"accelerators": [], **section}}}))


def test_a_network_from_scratch_has_its_baselines_budget_and_the_nearer_name_goes_first():
    budgets = {"rf": {"steps": 7}, "qac": {"batch": 3}, "qac-raw": {"batch": 4}, "rf+qac-raw": {"lr": 0.5}}
    plan = small(accelerators=["qac", "qac-raw", "rf+reflow"], budgets=budgets, fit={"steps": 11})
    told = {f.model: plan.budget(f) for f in plan.fitted}
    assert (told["rf"].steps, told["rf+qac"].steps, told["edm+qac"].steps) == (7, 7, 1000)
    assert (told["rf+qac"].batch, told["rf+qac-raw"].batch, told["edm+qac-raw"].batch) == (3, 4, 4)
    assert (told["rf+qac-raw"].lr, told["edm+qac-raw"].lr) == (0.5, told["edm"].lr)
    assert told["rf+reflow"].steps == 11  # a fit, which the baseline's budget is no matter of


def test_nfe_of_a_solver_or_an_entrant_stand_in_place_of_the_sections():
    plan = small(nfe_of={"heun": [9, 9, 3], "edm/heun": [35]}, accelerators=["rf+mac-gamma"])
    told = {entrant.name: entrant.nfes for entrant in plan.entrants}
    assert told["rf/heun"] == (3, 9) and told["edm/heun"] == (35,) and told["rf/euler"] == (2, 5)
    own = small(nfe_of={"rf+mac-gamma/own": [7]}, accelerators=["rf+mac-gamma"])
    assert {e.name: e.nfes for e in own.entrants}["rf+mac-gamma/own"] == (7,)


@pytest.mark.parametrize(
    "wrong", [{"nfe_of": {"hoin": [3]}}, {"nfe_of": {"si/heun": [3]}}, {"budgets": {"rf+qacc": {}}}]
)
def test_mistyped_names_are_refused_with_the_nearest(wrong):
    with pytest.raises(UserError, match="did you mean"):
        small(**wrong)


def test_nfe_that_a_solver_cannot_make_are_refused():
    with pytest.raises(UserError, match="heun makes NFE 1, 3, 5"):
        small(nfe_of={"heun": [4]})
