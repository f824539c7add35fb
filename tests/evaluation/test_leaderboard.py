"""Records, statistics and leaderboard on a small synthetic results folder."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation import leaderboard, records
from evaluation.statistics import paired_difference, summarise, t_interval
from tests.evaluation.synthetic import NFES, collected, make_results, quality


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def tidy(results):
    return collected(results)


@pytest.fixture(scope="module")
def board(tidy):
    return leaderboard.leaderboard(tidy)


def one(board, dataset, entrant, nfe):
    rows = board[(board["dataset"] == dataset) & (board["entrant"] == entrant) & (board["nfe"] == nfe)]
    assert len(rows) == 1
    return rows.iloc[0]


def values(*triples):
    return pd.DataFrame(triples, columns=["train_seed", "block", "value"])


def test_t_interval_is_scipys():
    units = np.array([3.0, 4.5, 1.25, 9.0])
    expected = stats.t.interval(0.95, 3, loc=units.mean(), scale=stats.sem(units))
    assert t_interval(units) == pytest.approx(expected, rel=1e-12)


def test_interval_is_over_training_seeds_as_soon_as_there_are_two():
    one_seed = values((0, 0, 1.0), (0, 1, 2.0), (0, 2, 6.0))
    summary = summarise(one_seed)
    expected = stats.t.interval(0.95, 2, loc=3, scale=stats.sem([1, 2, 6]))
    assert (summary.interval_over, summary.count, summary.mean) == ("blocks", 3, 3.0)
    assert (summary.low, summary.high) == pytest.approx(expected)
    two = summarise(pd.concat([one_seed, values((1, 0, 5.0), (1, 1, 5.0))]))
    expected = stats.t.interval(0.95, 1, loc=4, scale=stats.sem([3, 5]))
    assert (two.interval_over, two.count, two.seeds, two.mean) == ("train_seeds", 5, 2, 4.0)
    assert (two.low, two.high) == pytest.approx(expected)
    single = summarise(values((0, -1, 2.0)))
    assert (single.interval_over, single.mean) == ("none", 2.0)
    assert math.isnan(single.low)


def test_pairing_removes_what_entrants_share():
    shared = [10.0, 200.0, 3000.0]
    a = values(*[(0, b, s + 1 + 0.1 * b) for b, s in enumerate(shared)])
    b = values(*[(0, b, s) for b, s in enumerate(shared)], (0, 3, 7.0))
    gap = paired_difference(a, b)
    expected = stats.t.interval(0.95, 2, loc=1.1, scale=stats.sem([1, 1.1, 1.2]))
    assert gap.count == 3
    assert (gap.low, gap.high) == pytest.approx(expected)
    assert paired_difference(a, values((5, 0, 1.0))).count == 0


def test_every_planned_point_has_a_record_and_a_leaderboard_row(results, tidy, board):
    keys = ["dataset", "entrant", "train_seed", "nfe"]
    plan = pd.DataFrame(json.loads((results / "plan.json").read_text()))
    points = tidy[tidy["kind"] != "reference"]
    assert set(map(tuple, points[keys].to_numpy())) == set(map(tuple, plan[keys].to_numpy()))
    rows = board[["dataset", "entrant", "nfe"]]
    assert not rows.duplicated().any()
    assert set(map(tuple, rows.to_numpy())) == set(map(tuple, plan[["dataset", "entrant", "nfe"]].to_numpy()))


def test_missing_file_and_point_are_failed_rows(results, tidy, board, tmp_path):
    rows = tidy[(tidy["entrant"] == "arc+fold/heun") & (tidy["dataset"] == "glyphs") & (tidy["train_seed"] == 1)]
    assert list(rows[rows["kind"] == "entrant"]["status"]) == ["failed"] * len(NFES)
    assert set(rows["reason"]) == {"no score file"}
    row = one(board, "glyphs", "arc+fold/heun", 5)
    assert (row["status"], row["reason"], row["n_train_seeds"]) == ("failed", "train seed 1: no score file", 1)
    assert row["label"] == "ARC + fold, heun"
    assert pd.isna(row["rank"])
    empty = collected_without_scores(results, tmp_path)
    assert set(empty[empty["kind"] != "reference"]["status"]) == {"failed"}
    assert set(leaderboard.leaderboard(empty)["status"]) == {"failed"}


def collected_without_scores(results, tmp_path):
    plan = json.loads((results / "plan.json").read_text())
    return records.collect(tmp_path, plan)


def test_unreadable_file_is_a_failed_row(tmp_path):
    results = make_results(tmp_path, seeds=(0,), baselines=("arc",))
    (results / "scores/rings/seed0/arc/heun.json").write_text('{"points": [')
    row = one(leaderboard.leaderboard(collected(results)), "rings", "arc/heun", 1)
    assert row["status"] == "failed"
    assert "unreadable heun.json" in row["reason"]
    assert row["metric"] == "w2"


def test_non_finite_value_is_diverged(tidy, board):
    point = tidy[(tidy["entrant"] == "line/heun") & (tidy["dataset"] == "rings") & (tidy["nfe"] == 2)]
    bad = point[point["train_seed"] == 1]
    assert list(bad["status"]) == ["diverged"]
    assert "w2 is not finite (nan) in block 2" in bad["reason"].iloc[0]
    assert set(point[point["train_seed"] == 0]["status"]) == {"ok"}
    assert one(board, "rings", "line/heun", 2)["status"] == "diverged"
    assert np.isfinite(tidy[tidy["status"] == "ok"]["value"]).all()
    assert tidy[tidy["status"] != "ok"]["value"].isna().all()


def test_skipped_and_timeout_keep_their_status(board):
    assert one(board, "rings", "line+fold/heun", 1)["status"] == "skipped"
    row = one(board, "glyphs", "arc+bend/euler", 1)
    assert (row["status"], row["reason"]) == ("timeout", "train seed 0: no answer after <60> s")


def test_mean_interval_rank_and_costs(tidy, board):
    row = one(board, "glyphs", "line+fold/heun", 5)
    point = {"kind": "entrant", "solver": "heun", "accelerator": "fold", "baseline": "line", "nfe": 5}
    point["entrant"] = "line+fold/heun"
    seeds = [np.mean([quality(point | {"train_seed": s}, b) for b in range(3)]) for s in (0, 1)]
    low, high = stats.t.interval(0.95, 1, loc=np.mean(seeds), scale=stats.sem(seeds))
    assert [row["mean"], row["sd"]] == pytest.approx([np.mean(seeds), np.std(seeds, ddof=1)])
    assert [row["low"], row["high"]] == pytest.approx([low, high])
    assert (row["n_values"], row["interval_over"], row["n_train_seeds"], row["metric"]) == (
        6,
        "train_seeds",
        2,
        "fd_glyphs",
    )
    assert row["ode_rmse_mean"] == pytest.approx(0.1 / 6)
    assert (row["fit_seconds"], row["nfe_measured"]) == (100.0, 5.0)
    assert one(board, "glyphs", "line/heun", 5)["fit_seconds"] == 80.0
    assert row["curvature"] == pytest.approx(0.1 + 0.01 * 9 + 0.0015)
    assert board["cfm_loss"].isna().all()  # records from before it was measured
    for _, group in board[(board["status"] == "ok") & (board["kind"] == "entrant")].groupby(["dataset", "nfe"]):
        assert list(group["rank"]) == list(group["mean"].rank(method="min"))
        assert (group["decided"] == "best").sum() == 1
    assert board[board["kind"] == "control"]["rank"].isna().all()


def test_a_fit_from_scratch_does_not_cost_its_baseline_too(tmp_path):
    results = make_results(tmp_path)
    for file in (results / "reference/glyphs").glob("seed*/line+fold.json"):
        document = json.loads(file.read_text())
        document["fit"]["from_scratch"] = True
        file.write_text(json.dumps(document))
    board = leaderboard.leaderboard(records.collect(results, json.loads((results / "plan.json").read_text())))
    assert one(board, "glyphs", "line+fold/heun", 5)["fit_seconds"] == 100.0 - 80.0
    assert one(board, "glyphs", "line+bend/euler", 5)["fit_seconds"] > 80.0


def test_the_cost_of_a_solvers_fit_is_added_and_shown_apart(tmp_path):
    results = make_results(tmp_path)
    file = results / "scores/glyphs/seed0/line/heun.json"
    document = json.loads(file.read_text())
    for point in document["points"]:
        point |= {"fit_seconds": 5.0, "fit_teacher_calls": 1000}
    file.write_text(json.dumps(document))
    board = leaderboard.leaderboard(records.collect(results, json.loads((results / "plan.json").read_text())))
    row, plain = one(board, "glyphs", "line/heun", 5), one(board, "glyphs", "line/euler", 5)
    assert (row["solver_fit_seconds"], row["solver_fit_calls"]) == (5, 1000)
    assert row["fit_seconds"] == plain["fit_seconds"] + 5
    assert math.isnan(plain["solver_fit_calls"])


def test_what_networks_beside_the_models_cost_is_kept_apart_and_empty_where_it_was_not_recorded(tmp_path):
    results = make_results(tmp_path)
    for seed, seconds in ((0, 2e-4), (1, 4e-4)):
        file = results / f"scores/glyphs/seed{seed}/line/heun.json"
        document = json.loads(file.read_text())
        for point in document["points"]:
            point |= {"helper_gflop_per_sample": 0.004, "helper_seconds_per_sample": seconds}
        file.write_text(json.dumps(document))
    tidy = collected(results)
    records.write(tidy, results)
    board = leaderboard.leaderboard(records.load(results))
    row, plain = one(board, "glyphs", "line/heun", 5), one(board, "glyphs", "line/euler", 5)
    assert row["helper_gflop_per_sample"] == pytest.approx(0.004)
    assert row["helper_seconds_per_sample"] == pytest.approx(3e-4)  # the mean over training seeds
    assert row["gflop_per_sample"] == plain["gflop_per_sample"]  # the total, as it was recorded
    assert math.isnan(plain["helper_gflop_per_sample"]) and math.isnan(plain["helper_seconds_per_sample"])
    old = tidy.drop(columns=["helper_gflop_per_sample", "helper_seconds_per_sample"])
    assert leaderboard.leaderboard(old)["helper_gflop_per_sample"].isna().all()


def test_the_flow_matching_loss_stands_beside_every_solver_of_its_model(tmp_path):
    results = make_results(tmp_path, baselines=("arc",))
    for seed, value in ((0, 1.5), (1, 1.7)):
        file = results / f"reference/glyphs/seed{seed}/arc.json"
        document = json.loads(file.read_text())
        document["metrics"].append({"metric": "cfm_loss", "value": value, "stderr": 0.01, "n": 4096})
        file.write_text(json.dumps(document))
    board = leaderboard.leaderboard(collected(results))
    own = (board["dataset"] == "glyphs") & (board["baseline"] == "arc") & (board["accelerator"] == "none")
    assert own.sum() == 2 * len(NFES) and board.loc[own, "cfm_loss"].tolist() == pytest.approx([1.6] * own.sum())
    assert board.loc[~own, "cfm_loss"].isna().all()


def test_decided_is_the_paired_interval(tmp_path):
    results = make_results(tmp_path, seeds=(0,), baselines=("arc",))
    board = leaderboard.leaderboard(collected(results))
    entrants = board[(board["kind"] == "entrant") & (board["status"] == "ok")]
    for (_, nfe), group in entrants.groupby(["dataset", "nfe"]):
        best = group.iloc[0]
        for _, row in group.iloc[1:].iterrows():
            a, b = ([quality(dict(r) | {"train_seed": 0, "nfe": int(nfe)}, k) for k in range(3)] for r in (row, best))
            gap = stats.ttest_1samp(np.subtract(a, b), 0).pvalue
            assert row["decided"] == ("yes" if gap < 0.05 else "no")


def test_rank_range_counts_what_is_decided(tmp_path):
    results = make_results(tmp_path, seeds=(0,), baselines=("arc", "line"))
    board = leaderboard.leaderboard(collected(results))
    entrants = board[(board["kind"] == "entrant") & (board["status"] == "ok")]
    wide = 0
    for (_, nfe), group in entrants.groupby(["dataset", "nfe"]):
        blocks = [
            [quality(dict(r) | {"train_seed": 0, "nfe": int(nfe)}, k) for k in range(3)] for _, r in group.iterrows()
        ]
        for i, (_, row) in enumerate(group.iterrows()):
            tests = [stats.ttest_1samp(np.subtract(blocks[i], b), 0) for b in blocks[:i] + blocks[i + 1 :]]
            better = sum(t.statistic > 0 and t.pvalue < 0.05 for t in tests)
            worse = sum(t.statistic < 0 and t.pvalue < 0.05 for t in tests)
            assert (row["rank_low"], row["rank_high"]) == (1 + better, len(group) - worse)
            assert row["rank_low"] <= row["rank"] <= row["rank_high"]
            wide += row["rank_low"] < row["rank_high"]
    assert wide, "every difference is decided: the case is too easy"


def test_a_skipped_metric_is_no_status_of_its_point(tmp_path):
    results = make_results(tmp_path, seeds=(0,), baselines=("arc",))
    file = results / "scores/glyphs/seed0/arc/euler.json"
    document = json.loads(file.read_text())
    document["extractors"] = {"net": {"extractor_sha256": "ab", "reference_sha256": "cd"}}
    for point in document["points"]:
        point["metrics"][0] |= {"extractor": "net", "jackknife": [1.0, 2.0, 4.0], "warning": "singular: 3 of 9"}
        lacking = {"status": "skipped", "reason": "weights: put them there", "value": None, "block": -1}
        point["metrics"].append({"metric": "fid", **lacking})
    file.write_text(json.dumps(document))
    tidy = collected(results)
    rows = tidy[(tidy["dataset"] == "glyphs") & (tidy["entrant"] == "arc/euler")]
    assert set(rows.loc[rows["metric"] == "fid", "status"]) == {"skipped"}
    assert rows.loc[rows["metric"] == "fid", "value"].isna().all()
    assert set(rows.loc[rows["extractor"] == "net", "extractor_sha256"]) == {"ab"}
    records.write(tidy, tmp_path)
    tidy = records.load(tmp_path)
    row = one(leaderboard.leaderboard(tidy), "glyphs", "arc/euler", 5)
    assert (row["status"], row["skipped"]) == ("ok", "fid: weights")
    assert row["warning"] == "singular: 3 of 9" and row["rank"] >= 1
    primary = tidy[tidy["primary"] != "fid"].assign(primary=tidy["primary"].replace("fd_glyphs", "fid"))
    row = one(leaderboard.leaderboard(primary), "glyphs", "arc/euler", 5)
    assert (row["status"], row["reason"]) == ("skipped", "weights: put them there")
    assert pd.isna(row["rank"]) and row["fd_glyphs_mean"] > 0


def test_exact_ties_share_a_rank(tmp_path):
    results = make_results(tmp_path, seeds=(0,), baselines=("arc",))
    source = json.loads((results / "scores/rings/seed0/arc+fold/euler.json").read_text())
    (results / "scores/rings/seed0/arc+fold/heun.json").write_text(json.dumps(source | {"solver": "heun"}))
    (results / "scores/rings/seed0/arc+bend/euler.json").unlink()
    board = leaderboard.leaderboard(collected(results))
    pair = [one(board, "rings", f"arc+fold/{solver}", 5) for solver in ("euler", "heun")]
    assert [row["rank"] for row in pair] == [1, 1]
    assert [row["decided"] for row in pair] == ["best", "no"]


def test_csv_is_byte_stable(results, tidy, tmp_path):
    first = {p.name: p.read_bytes() for p in leaderboard.write(tidy, tmp_path / "a")}
    shuffled = tidy.sample(frac=1, random_state=3)
    assert {p.name: p.read_bytes() for p in leaderboard.write(shuffled, tmp_path / "b")} == first
    plan = json.loads((results / "plan.json").read_text())[::-1]
    again = records.collect(results, plan)
    pd.testing.assert_frame_equal(again, tidy)
    assert leaderboard.csv_text(leaderboard.leaderboard(again)).encode() == first["leaderboard.csv"]


def test_parquet_round_trip(results, tidy, tmp_path):
    records.write(tidy, tmp_path)
    pd.testing.assert_frame_equal(records.load(tmp_path), tidy)
    assert {"provenance_commit", "provenance_dirty"} <= set(tidy.columns)
    assert set(tidy["provenance_dirty"]) == {"true", ""}


def test_markdown_names_failures(board):
    text = leaderboard.markdown(board)
    assert "glyphs, arc+fold/heun, NFE 1: failed (train seed 1: no score file)" in text
    assert "| line+fold/heun | " in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6}


def test_points_outside_the_plan_are_left_out(results):
    plan = [p for p in json.loads((results / "plan.json").read_text()) if p["solver"] != "heun"]
    assert "heun" not in set(records.collect(results, plan)["solver"])


def test_human_numbers():
    assert [leaderboard.human(v) for v in (1723.4, 12.345, 0.01234, 0, 2.5e-7)] == [
        "1,723",
        "12.3",
        "0.0123",
        "0",
        "2.50e-07",
    ]
    assert leaderboard.human(math.nan) == ""
