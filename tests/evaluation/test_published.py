"""Every published leaderboard and table follows, byte for byte, from the records beside it."""

import json

import pandas as pd
import pytest

from evaluation import models, records, tables
from evaluation.leaderboard import csv_text, leaderboard
from fewstep.config import load_study
from fewstep.plan import Plan
from fewstep.registry import ROOT

PUBLISHED = sorted(path.parent for path in (ROOT / "results" / "published").glob("*/records.parquet"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_published_leaderboard_follows_from_its_records(folder):
    tidy = records.load(folder)
    assert csv_text(leaderboard(tidy)) == (folder / "leaderboard.csv").read_text()
    assert csv_text(models.models(tidy)) == (folder / "models.csv").read_text()


@pytest.mark.parametrize("folder", [f for f in PUBLISHED if (f / "tables").exists()], ids=lambda folder: folder.name)
def test_published_tables_follow_from_the_records(folder, tmp_path):
    written = tables.write(records.load(folder), Plan(load_study(folder / "study.json")), tmp_path)
    assert {file.name for file in written} == {file.name for file in (folder / "tables").iterdir()}
    for file in written:
        assert file.read_bytes() == (folder / "tables" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_published_leaderboard_has_every_planned_point(folder):
    board = pd.read_csv(folder / "leaderboard.csv")
    planned = {(p["dataset"], p["entrant"], p["nfe"]) for p in json.loads((folder / "plan.json").read_text())}
    assert set(zip(board.dataset, board.entrant, board.nfe, strict=True)) == planned
    assert (board.status == "ok").all()


def test_something_is_published():
    assert PUBLISHED, "the README quotes results/published"
