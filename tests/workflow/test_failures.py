"""Methods that raise, return NaN or a wrong shape, or hang: each costs its own rows, and a fix is tried again."""

import copy
import math
import os
from pathlib import Path

import pytest
from workspace import SUMMARIES, TINY

from evaluation.jobs import write_failure
from fewstep.layout import Layout
from fewstep.plan import Fitted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NFE = 3
CARD = """\
name: {name}
label: {name}
kind: solver
summary: A solver that goes wrong.
paper: {{title: none}}
order: 1
nfe: {{first: 3, step: 100}}
"""
# name -> (body of `sample`, status, part of the reason)
BROKEN = {
    "raises": ("raise RuntimeError('boom on purpose')", "failed", "boom on purpose"),
    "returns_nan": ("return latents * float('nan')", "diverged", "not finite"),
    "wrong_shape": ("return latents[:, :1]", "failed", "shape"),
    "hangs": ("import time; time.sleep(1000)", "timeout", "no end after"),
}
WELL = """\
for step in range(nfe):
        latents = field(latents, 1 - step / nfe).x0
    return latents"""


def write(folder: Path, name: str, body: str) -> None:
    folder = folder / "solvers" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "method.yaml").write_text(CARD.format(name=name))
    (folder / "method.py").write_text(f"def sample(field, latents, nfe):\n    {body}\n")


def test_broken_methods_are_rows_and_a_fix_is_tried_again(copied, tmp_path):
    def write_all(well: bool) -> None:
        for name, (body, *_) in BROKEN.items():
            write(tmp_path / "extra", name, WELL if well else body)

    copied.env["FEWSTEP_METHODS"] = os.fspath(tmp_path / "extra")
    before = copied.board()
    study = copy.deepcopy(TINY) | {"limits": {"point_minutes": 0.15}}
    study["datasets"]["eight_gaussians"]["solvers"] += list(BROKEN)
    copied.write_study(study)
    write_all(well=False)

    done = copied.snakemake()
    assert done.returncode != 0
    board = copied.board()
    for name, (_, status, reason) in BROKEN.items():
        row = board.loc["eight_gaussians", f"rf/{name}", NFE]
        assert (row["status"], reason in row["reason"]) == (status, True), row
        assert math.isnan(row["mean"])
        assert f"rf/{name}" in done.stdout  # the end of the run lists what failed
    others = board.drop([("eight_gaussians", f"rf/{name}", NFE) for name in BROKEN])
    assert set(others.index) == set(before.index)
    assert set(others["status"]) == {"ok"}
    page = (copied.results / "index.html").read_text()
    assert "boom on purpose" in page
    assert "no end after" in page

    # The same again: what failed is not tried anew by itself, and the run still says that it failed.
    again = {f"sample eight_gaussians rf {name}" for name in BROKEN} | {"score eight_gaussians rf"} | SUMMARIES
    assert copied.jobs() == {"verdict"}
    write_all(well=True)
    assert copied.jobs() == again
    write_all(well=False)
    assert copied.jobs() == {"verdict"}
    # What does not depend on the code, a lack of memory say, is tried again on request.
    removed = copied.fewstep("retry", "--study", str(copied.study))
    assert removed.returncode == 0
    for name in BROKEN:
        assert not (copied.results / f"samples/eight_gaussians/seed0/rf/{name}.safetensors").exists()
        assert f"{name}.safetensors" in removed.stdout
    assert (copied.results / "samples/eight_gaussians/seed0/rf/euler.safetensors").exists()
    assert copied.jobs() == again

    write_all(well=True)
    done = copied.snakemake()
    assert done.returncode == 0, done.stdout
    assert set(copied.board()["status"]) == {"ok"}
    assert (copied.results / "verdict.txt").exists()


def test_a_model_whose_measurement_failed_fails_the_run_and_is_tried_again(copied):
    fitted = Fitted("moons", 0, "rf", "reflow")
    layout = Layout(copied.results)
    write_failure(layout, fitted, "timeout", "no end after 1 s")
    options = ["--study", str(copied.study)]
    assert copied.fewstep("leaderboard", *options).returncode == 0
    verdict = copied.fewstep("verdict", *options)
    assert verdict.returncode == 1
    assert "timeout: moons rf+reflow (seed 0): no end after 1 s" in verdict.stdout
    copied.write_study(copy.deepcopy(TINY) | {"strict": False})
    assert copied.fewstep("verdict", *options).returncode == 0
    copied.fewstep("retry", *options)
    assert not layout.reference("moons", 0, "rf+reflow", ".safetensors").exists()
    assert layout.reference("moons", 0, "rf", ".safetensors").exists()
    assert copied.jobs() == {"reference moons rf+reflow", "score moons rf+reflow"} | SUMMARIES
