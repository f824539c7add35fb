"""Publishing copies what a finished run says, and refuses one that nobody could make again."""

import json

import pandas as pd
import pytest
from PIL import Image

from evaluation import figures, leaderboard, records
from evaluation.publish import KEPT, publish
from fewstep.errors import UserError
from tests.evaluation.synthetic import make_results, summarised


@pytest.fixture
def finished(tmp_path):
    """A finished run of one commit, without changes."""
    results = make_results(tmp_path, seeds=(0,), baselines=("arc",))
    for file in (results / "scores").rglob("*.json"):
        document = json.loads(file.read_text())
        document["provenance"] |= {"dirty": False}
        file.write_text(json.dumps(document))
    for file in (results / "reference").rglob("*.json"):
        document = json.loads(file.read_text())
        document["provenance"] |= {"dirty": False}
        file.write_text(json.dumps(document))
    tidy = summarised(results)
    figures.KINDS["curvature"].draw("rings", leaderboard.leaderboard(tidy), tidy, results)
    (results / "tables").mkdir()
    (results / "tables" / "index.csv").write_text("table\n")
    (results / "tables" / ".snakemake_timestamp").touch()
    for name in ("study.json", "verdict.txt"):
        (results / name).write_text("{}")
    return results


def test_tables_figures_and_commit_are_published(finished, tmp_path):
    target = publish("small", finished, tmp_path / "published")
    assert all((target / name).read_bytes() == (finished / name).read_bytes() for name in KEPT)
    assert [file.name for file in (target / "tables").iterdir()] == ["index.csv"]
    assert "abc1234" in (target / "README.md").read_text()
    with (
        Image.open(finished / "figures/rings_curvature.png") as drawn,
        Image.open(target / "figures/rings_curvature.png") as kept,
    ):
        assert kept.size == drawn.size and kept.mode == "P"
        assert kept.text["Description"] == drawn.text["Description"] != ""
    pd.testing.assert_frame_equal(records.load(target), records.load(finished))


def test_uncommitted_code_and_unfinished_runs_are_refused(finished, tmp_path):
    (finished / "verdict.txt").unlink()
    with pytest.raises(UserError, match=r"has no verdict.txt; finish the run first"):
        publish("small", finished, tmp_path / "published")
    tidy = records.load(finished)
    records.write(tidy.assign(provenance_dirty="true"), finished)
    with pytest.raises(UserError, match="uncommitted code; run it anew"):
        publish("small", finished, tmp_path / "published")
    assert not (tmp_path / "published").exists()
