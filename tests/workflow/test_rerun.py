"""An edit reruns the jobs that depend on it and no others."""

import copy
import shutil

import pytest
from workspace import SUMMARIES, TINY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODELS = ("moons rf", "moons rf+reflow", "eight_gaussians rf")
EULER = {f"sample {model} euler" for model in MODELS} | {f"score {model}" for model in MODELS}


def edit(workspace: Workspace, file: str, old: str, new: str) -> None:
    """Replace text of a file that must be there."""
    path = workspace.root / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_edit_of_a_solver_reruns_its_jobs_and_the_summaries(copied):
    edit(copied, "methods/solvers/euler/method.py", "x + (after - now)", "x + 1.0 * (after - now)")
    assert copied.jobs() == EULER | SUMMARIES


def test_a_comment_reruns_nothing(copied):
    edit(copied, "methods/solvers/euler/method.py", '"""Euler', '"""The rule of Euler')
    edit(copied, "methods/solvers/euler/method.py", "    return x", "    # all steps are done\n    return x")
    edit(copied, "methods/solvers/euler/method.yaml", "order: 1\n", "order: 1   # as declared\n")
    edit(copied, "fewstep/training.py", '"""Linear warm-up', '"""At first a linear warm-up')
    copied.study.write_text("# a remark\n" + copied.study.read_text())
    assert copied.jobs() == set()


def test_an_edit_of_the_training_loop_retrains(copied):
    edit(copied, "fewstep/training.py", "CURVE_POINTS = 50", "CURVE_POINTS = 51")
    jobs = copied.jobs()
    assert {"train moons rf", "train eight_gaussians rf", "fit moons rf reflow"} <= jobs
    assert not {job for job in jobs if job.startswith("data")}


def test_an_edit_of_the_page_rebuilds_the_page_alone(copied):
    with (copied.root / "evaluation" / "site" / "page.css").open("a") as file:
        file.write("b { color: inherit }\n")
    assert copied.jobs() == {"site", "verdict"}


def test_a_new_solver_adds_its_jobs_and_the_summaries(copied):
    folder = copied.root / "methods" / "solvers" / "mine"
    shutil.copytree(folder.with_name("euler"), folder)
    edit(copied, "methods/solvers/mine/method.yaml", "name: euler", "name: mine")
    assert copied.jobs() == set()  # the study doesn't name it
    study = copy.deepcopy(TINY)
    study["datasets"]["eight_gaussians"]["solvers"].append("mine")
    copied.write_study(study)
    # moons' figures read the same table, which has changed
    assert copied.jobs() == {"sample eight_gaussians rf mine", "score eight_gaussians rf"} | SUMMARIES


def test_another_budget_retrains_its_dataset_alone(copied):
    study = copy.deepcopy(TINY)
    study["datasets"]["eight_gaussians"]["train"] = {"steps": 30}
    copied.write_study(study)
    own = {"train eight_gaussians rf", "reference eight_gaussians rf"}
    own |= {"sample eight_gaussians rf euler", "score eight_gaussians rf"}
    assert copied.jobs() == own | SUMMARIES


def test_limits_and_checkpoint_intervals_rerun_nothing(copied):
    study = copy.deepcopy(TINY) | {"limits": {"fit_minutes": 5, "point_minutes": 5}}
    study["defaults"]["train"]["checkpoint_seconds"] = 1.0
    copied.write_study(study)
    assert copied.jobs() == set()
