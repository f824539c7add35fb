"""A run from nothing to the page, and what a second run of the same study does: nothing."""

import math
import time
from pathlib import Path

import pytest

from fewstep.config import load_study
from fewstep.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_planned_point_is_a_row_that_is_ok(finished):
    board = finished.board()
    planned = {(p["dataset"], p["entrant"], p["nfe"]) for p in Plan(load_study(finished.study)).points}
    assert set(board.index) == planned
    assert set(board["status"]) == {"ok"}
    assert all(math.isfinite(mean) for mean in board["mean"])


def test_what_a_user_reads_is_there(finished):
    for name in ("index.html", "leaderboard.md", "records.parquet", "verdict.txt"):
        assert (finished.results / name).stat().st_size > 0
    for dataset in ("moons", "eight_gaussians"):
        for kind in ("quality_vs_nfe", "quality_vs_seconds", "curvature", "trajectories_2d"):
            assert (finished.results / "figures" / f"{dataset}_{kind}.png").read_bytes().startswith(b"\x89PNG")
    page = (finished.results / "index.html").read_text()
    assert "rf+reflow/heun" in page


def stamps(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_a_second_run_does_nothing(copied):
    before, started = stamps(copied.results), time.monotonic()
    done = copied.snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout
    assert time.monotonic() - started < 10
    assert stamps(copied.results) == before


def test_snakemakes_report_builds_without_a_network(copied):
    nowhere = "http://127.0.0.1:9"
    copied.env |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), nowhere)
    done = copied.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout
    report = (copied.root / "report.html").read_text()
    assert "leaderboard.csv" in report
    assert "moons_quality_vs_nfe.png" in report
