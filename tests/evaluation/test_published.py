"""Every published leaderboard follows, byte for byte, from the records beside it."""

import json

import pandas as pd
import pytest

from evaluation.leaderboard import csv_text, leaderboard
from fewstep.registry import ROOT

PUBLISHED = sorted(path.parent for path in (ROOT / "results" / "published").glob("*/records.parquet"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_published_leaderboard_follows_from_its_records(folder):
    records = pd.read_parquet(folder / "records.parquet")
    assert csv_text(leaderboard(records)) == (folder / "leaderboard.csv").read_text()


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_published_leaderboard_has_every_planned_point(folder):
    board = pd.read_csv(folder / "leaderboard.csv")
    planned = {(p["dataset"], p["entrant"], p["nfe"]) for p in json.loads((folder / "plan.json").read_text())}
    assert set(zip(board.dataset, board.entrant, board.nfe, strict=True)) == planned
    assert (board.status == "ok").all()


def test_something_is_published():
    assert PUBLISHED, "the README quotes results/published"
