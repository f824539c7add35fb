"""The table of models: one row each, means and intervals over training seeds, and nothing without a value."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation import leaderboard, models
from evaluation.metrics import METRICS
from tests.evaluation.synthetic import collected, make_results


def measured(results, change):
    """Let `change(document, seed)` edit every reference file."""
    for file in (results / "reference").rglob("*.json"):
        document = json.loads(file.read_text())
        change(document, document["train_seed"])
        file.write_text(json.dumps(document))
    return collected(results)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Codes are reported on glyphs by one accelerator; its second training took longer, another's failed."""
    results = make_results(tmp_path_factory.mktemp("models"), seeds=(0, 1, 2), baselines=("arc",))

    def change(document, seed):
        if document["dataset"] == "glyphs" and document["model"] == "arc+fold":
            document["fit"]["seconds"] += 30 * (seed == 1)
            document["metrics"].append({"metric": "code_entropy", "value": [5.0, 5.5, 5.75][seed]})
        if document["model"] == "arc+bend" and seed == 2:
            document |= {"status": "diverged", "reason": "a weight is not finite", "metrics": []}

    measured(results, change)
    return results


@pytest.fixture(scope="module")
def table(results):
    return models.models(collected(results))


def row(table, dataset, model):
    return table[(table["dataset"] == dataset) & (table["model"] == model)].iloc[0]


def test_every_model_is_one_row_sorted(table):
    names = [(d, m) for d in ("glyphs", "rings") for m in ("arc", "arc+bend", "arc+fold")]
    assert list(zip(table["dataset"], table["model"], strict=True)) == names


def test_means_and_intervals_are_over_training_seeds(table):
    found = row(table, "glyphs", "arc+fold")
    low, high = stats.t.interval(0.95, 2, loc=np.mean([5, 5.5, 5.75]), scale=stats.sem([5, 5.5, 5.75]))
    assert [found["code_entropy_mean"], found["code_entropy_low"], found["code_entropy_high"]] == pytest.approx(
        [np.mean([5, 5.5, 5.75]), low, high]
    )
    assert found["fit_seconds"] == pytest.approx((20 + 50 + 20) / 3)
    assert (found["n_train_seeds"], found["parameters"], found["fit_steps"], found["teacher_calls"]) == (3, 9, 10, 0)
    assert pd.isna(row(table, "rings", "arc+fold")["code_entropy_mean"])


def test_a_failed_training_is_told(table):
    found = row(table, "rings", "arc+bend")
    assert (found["status"], found["reason"], found["n_train_seeds"]) == ("diverged", "a weight is not finite", 2)
    assert np.isfinite(found["curvature_mean"])
    assert set(table.loc[table["model"] != "arc+bend", "status"]) == {"ok"}


def test_the_page_has_labels_and_no_column_without_a_value(table):
    text = models.markdown(table)
    glyphs, rest = text.partition("## rings")[::2]
    rings, units = rest.partition("## Units")[::2]
    entropy, curvature = (f"| {METRICS[name].label} |" for name in ("code_entropy", "curvature"))
    assert curvature in glyphs and curvature in rings and entropy in glyphs and entropy not in rings
    assert "| arc+fold | 3 | 9 | 30 | 10 | 0 |" in glyphs and "5.42 ± 0.949" in glyphs
    assert f"- {METRICS['code_entropy'].label}: bits\n" in units and METRICS["cfm_loss"].label not in units
    assert "- rings, arc+bend: diverged (a weight is not finite)" in units
    for part in (glyphs, rings):
        assert len({line.count("|") for line in part.splitlines() if line.startswith("|")}) == 1


def test_the_cost_of_weights_that_others_trained_is_unknown_and_not_zero(tmp_path):
    results = make_results(tmp_path, seeds=(0,), baselines=("arc", "line"))

    def change(document, seed):
        if document["model"].partition("+")[0] == "arc":
            document["provenance"] = document.get("provenance", {}) | {"pretrained": "net.pkl, SHA-256 12ab"}
        if document["model"] == "arc":
            document["fit"] |= {"seconds": None, "steps": None}

    tidy = measured(results, change)
    table = models.models(tidy)
    arc = row(table, "glyphs", "arc")
    assert np.isnan(arc["fit_seconds"]) and np.isnan(arc["fit_steps"]) and arc["parameters"] > 0
    assert "\n| arc | 1 | 9 |  |  | 0 |" in models.markdown(table)
    assert "- glyphs, arc: net.pkl, SHA-256 12ab\n" in models.markdown(table)
    assert "- glyphs, line:" not in models.markdown(table)
    board = leaderboard.leaderboard(tidy).set_index(["dataset", "entrant", "nfe"])["fit_seconds"]
    assert np.isnan(board["glyphs", "arc/heun", 5]) and board["glyphs", "line/heun", 5] > 0
    # On top of an unknown cost, the total is unknown, too.
    assert np.isnan(board["glyphs", "arc+fold/heun", 5])


def test_one_training_has_no_interval(tmp_path):
    table = models.models(collected(make_results(tmp_path, seeds=(0,), baselines=("arc",))))
    assert table["curvature_mean"].notna().all() and table["curvature_low"].isna().all()
    assert "±" not in models.markdown(table).partition("##")[2]


def test_files_are_byte_stable(results, tmp_path):
    tidy = collected(results)
    first = {path.name: path.read_bytes() for path in models.write(tidy, tmp_path / "a")}
    assert set(first) == {"models.csv", "models.md"}
    shuffled = tidy.sample(frac=1, random_state=3)
    assert {path.name: path.read_bytes() for path in models.write(shuffled, tmp_path / "b")} == first
