"""The studies at the papers' scale fill the tables that they are there for."""

import pandas as pd
import pytest

from evaluation import records as recs
from evaluation import tables
from evaluation.study import check, metrics_of
from fewstep.config import Weights, load_study
from fewstep.facts import DATASETS
from fewstep.plan import NONE, Plan
from fewstep.registry import ROOT

# Tables, and how many of their published values the study has at least a number for.
FILLED = {
    "cifar10": {
        "amed_odd_cifar10": 8,
        "amed_cifar10": 16,
        "boss_table1": 6,
        "boss_table2": 3,
        "cfm_euler_cifar10": 16,
        "cfm_curvature_cifar10": 2,
        "diff_sampler_cifar10": 48,
        "dpm_solver_v3_cifar10_edm": 24,
        "dpm_solver_v3_cifar10_score_sde": 28,
        "edm_cifar10": 2,
        "edm_networks": 2,
        "gits_cifar10": 8,
        "mac_pretraining": 8,
        "mac_cifar10": 3,
        "mac_adaptivity_si": 3,
        "mac_adaptivity_ddpm": 3,
        "mac_components": 6,
        "qac_table6": 13,
        "qac_table7": 1,
        "rectified_flow_table1a_full": 9,
        "rectified_flow_table1a_one_step": 18,
        "rectified_flow_distilled": 2,
        "rfpp_configurations": 13,
        "rne_cifar10": 2,
        "unipc_headline": 1,
    },
    "ffhq64": {
        "amed_odd_ffhq64": 8,
        "diff_sampler_ffhq64": 48,
        "edm_networks": 1,
        "gits_ffhq64": 8,
        "mac_other_datasets": 1,
        "qac_table7": 1,
        "rfpp_configurations": 10,
    },
    "afhqv2-64": {"edm_networks": 1, "mac_other_datasets": 1, "qac_table7": 3, "rfpp_configurations": 10},
    "imagenet64": {
        "amed_odd_imagenet64": 8,
        "diff_sampler_imagenet64": 48,
        "edm_imagenet64": 1,
        "gits_imagenet64": 8,
        "scm_quoted_edm": 1,
        "sfd_imagenet64": 1,
    },
}
# Here every value that ours stands beside was made by the same sampler, with the same settings, of as many samples.
SAME = ("diff_sampler_", "edm_cifar10", "edm_networks", "edm_imagenet64", "gits_")


def planned(name: str) -> Plan:
    return Plan(load_study(ROOT / "studies" / f"{name}.yaml"))


def as_if_run(plan: Plan) -> pd.DataFrame:
    """The records of a run in which every sample scored 1."""
    rows = []
    for point in plan.points:
        dataset, section = point["dataset"], plan.section(point["dataset"])
        model = point["baseline"] + ("" if point["accelerator"] == NONE else f"+{point['accelerator']}")
        shared = point | {"model": model, "status": "ok", "primary": plan.primary(dataset), "value": 1.0}
        shared |= {"n_generated": section.block_size, "n_reference": DATASETS[dataset].count}
        for metric in metrics_of(plan, dataset):
            rows += [shared | {"metric": metric, "block": block} for block in range(section.blocks)]
    for fitted in plan.fitted:
        model = {"dataset": fitted.dataset, "model": fitted.model, "baseline": fitted.baseline, "status": "ok"}
        model |= {"entrant": fitted.model, "kind": "reference", "train_seed": fitted.seed, "value": 1.0, "block": -1}
        rows += [model | {"metric": metric} for metric in ("curvature", "straightness", "cfm_loss")]
    return pd.DataFrame(rows, columns=recs.COLUMNS)


@pytest.fixture(scope="module", params=sorted(FILLED))
def filled(request):
    plan = planned(request.param)
    found = [table for table in tables.fill(as_if_run(plan), plan) if table.analogue is None]
    return FILLED[request.param], {table.key: table for table in found}


def test_every_table_that_a_study_is_for_has_our_numbers_beside_the_published_ones(filled):
    wanted, found = filled
    beside = {key: sum(cell.published is not None for cell in found[key].ours) for key in wanted}
    assert beside == wanted


def test_solvers_run_with_the_settings_of_the_tables_that_name_them(filled):
    wanted, found = filled
    for key in (key for key in wanted if key.startswith(SAME)):
        told = {reason for cell in found[key].ours if cell.published is not None for reason in cell.obstacles}
        assert not {reason for reason in told if "not known" not in reason}, key  # what a paper doesn't say, none can


@pytest.mark.parametrize("name", [*FILLED, "gpu-30min"])
def test_what_a_study_wants_judged_can_be(name):
    check(planned(name))


def test_a_table_says_which_models_are_read_as_published():
    from evaluation.tables.sheet import sheet
    from evaluation.tables.text import markdown

    study = planned("ffhq64").study
    section = study.datasets["ffhq64"].model_copy(update={"pretrained": {"edm": Weights(path="edm.pkl")}})
    plan = Plan(study.model_copy(update={"datasets": {"ffhq64": section}}))
    found = {table.key: table for table in tables.fill(as_if_run(plan), plan)}
    text = markdown(sheet(found["diff_sampler_ffhq64"], plan))
    assert "edm read as published" in text and "not the paper's" not in text
