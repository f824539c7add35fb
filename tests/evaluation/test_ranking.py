"""The ranking at few calls: its numbers against a hand-made table, and what the picture says."""

import re
from pathlib import Path

import pandas as pd
import pytest

from evaluation import figures, leaderboard
from evaluation.figures import ranking
from fewstep import facts, registry
from fewstep.config import make_study
from fewstep.layout import Layout
from fewstep.pictures import RANKED, pictures
from fewstep.plan import Plan
from tests.evaluation import crowd
from tests.evaluation.synthetic import collected

ANY = "failed", "diverged", "timeout", "out_of_memory", "skipped"


def board(values: dict[str, dict[int, float | str]], model: str = "arc") -> pd.DataFrame:
    """Leaderboard rows of one model: a value, or a status, by solver and NFE."""
    baseline, _, accelerator = model.partition("+")
    keys = {"dataset": "rings", "kind": "entrant", "baseline": baseline, "accelerator": accelerator or "none"}
    keys |= {"metric": "w2", "n_train_seeds": 1, "n_values": 3, "interval_over": "blocks"}
    rows = [
        keys | {"entrant": f"{model}/{solver}", "solver": solver, "nfe": nfe, "status": "ok", "mean": value}
        if not isinstance(value, str)
        else keys | {"entrant": f"{model}/{solver}", "solver": solver, "nfe": nfe, "status": value, "mean": None}
        for solver, by_nfe in values.items()
        for nfe, value in by_nfe.items()
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(mean=frame["mean"].astype("float64"))


# By hand: at NFE 3 one tie for the second place, at 4 a solver that can't, at 5 a failed and a skipped point.
TABLE = {
    "quick": {2: 0.1, 3: 1.0, 4: 2.0, 5: 1.5, 11: 0.1},
    "plain": {2: 0.2, 3: 2.0, 4: 1.0, 5: 3.0, 11: 0.2},
    "pairs": {3: 2.0, 5: "diverged"},
    "fancy": {3: 5.0, 4: 8.0, 5: "skipped"},
}
RANKS = {"quick": {3: 1, 4: 2, 5: 1}, "plain": {3: 2, 4: 1, 5: 2}, "pairs": {3: 2}, "fancy": {3: 4, 4: 3}}


def test_ranks_are_those_counted_by_hand():
    table = ranking.table(board(TABLE))
    ranked = table[table["status"] == "ok"]
    assert {(r.solver, r.nfe): r.rank for r in ranked.itertuples()} == {
        (solver, nfe): rank for solver, ranks in RANKS.items() for nfe, rank in ranks.items()
    }
    ratios = {(r.solver, r.nfe): r.ratio_to_best for r in ranked.itertuples()}
    assert [ratios["fancy", n] for n in (3, 4)] == [5.0, 8.0]
    assert [ratios["quick", n] for n in (3, 4, 5)] == [1.0, 2.0, 1.0]
    assert table[table["status"] != "ok"][["rank", "ratio_to_best"]].isna().all(axis=None)


def test_every_point_from_3_to_10_has_a_row_and_no_other():
    table = ranking.table(board(TABLE))
    planned = {(s, n) for s, by_nfe in TABLE.items() for n in by_nfe if RANKED[0] <= n <= RANKED[1]}
    assert RANKED == (3, 10)
    assert {(r.solver, r.nfe) for r in table.itertuples()} == planned
    assert len(table) == len(planned)
    assert dict(zip(table["solver"] + table["nfe"].astype(str), table["status"], strict=True))["pairs5"] == "diverged"


def test_solvers_are_sorted_by_mean_rank_where_a_failed_point_is_the_last():
    table = ranking.table(board(TABLE))
    means = table.drop_duplicates("solver").set_index("solver")["mean_rank"]
    assert means.to_dict() == pytest.approx({"quick": 4 / 3, "plain": 5 / 3, "pairs": (2 + 3) / 2, "fancy": 7 / 2})
    assert list(means.index) == ["quick", "plain", "pairs", "fancy"]


def test_a_solver_that_only_failed_is_last_and_one_that_was_only_skipped_has_no_place():
    values = {"ahead": {3: "skipped"}, "bad": {3: "failed"}, "good": {3: 1.0}, "late": {3: 2.0}}
    table = ranking.table(board(values))
    assert list(table["solver"]) == ["good", "late", "bad", "ahead"]
    assert list(table["mean_rank"][:3]) == [1, 2, 3]
    assert pd.isna(table["mean_rank"].iloc[3])


def test_equal_up_to_rounding_is_a_tie_as_in_the_leaderboard():
    table = ranking.table(board({"a": {3: 1.0}, "b": {3: 1.0 + 1e-9}, "c": {3: 1.001}}))
    assert list(table["rank"]) == [1, 1, 3]
    assert list(table["solver"]) == ["a", "b", "c"]


def test_each_model_is_ranked_by_itself():
    both = pd.concat([board({"a": {3: 9.0}, "b": {3: 3.0}}, "arc+bend"), board({"a": {3: 1.0}, "b": {3: 2.0}})])
    table = ranking.table(both)
    assert list(zip(table["model"], table["solver"], table["rank"], table["ratio_to_best"], strict=True)) == [
        ("arc", "a", 1, 1.0),
        ("arc", "b", 2, 2.0),
        ("arc+bend", "b", 1, 1.0),
        ("arc+bend", "a", 2, 3.0),
    ]


def test_a_best_value_of_zero_has_ranks_but_no_ratio():
    table = ranking.table(board({"a": {3: 0.0}, "b": {3: 2.0}}))
    assert list(table["rank"]) == [1, 2]
    assert table["ratio_to_best"].isna().all()


def drawn_texts(folder, rows) -> list[str]:
    """What the picture says, in the order in which it was drawn."""
    paths = ranking.draw("rings", rows, pd.DataFrame(), folder)
    assert sorted(p.suffix for p in paths) == [".csv", ".png", ".svg"]
    svg = next(p for p in paths if p.suffix == ".svg").read_text()
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_picture_names_solvers_values_ranks_and_failures(tmp_path):
    texts = drawn_texts(tmp_path, board(TABLE))
    assert [t for t in texts if t in TABLE] == ["quick", "plain", "pairs", "fancy"]
    shown = {ranking.short(v) for by in TABLE.values() for n, v in by.items() if 3 <= n <= 10 and isinstance(v, float)}
    assert shown <= set(texts)
    assert texts.count("D") == texts.count("S") == 1
    assert any("D: diverged" in t and "S: skipped" in t for t in texts)
    assert "0.10" not in texts  # the value at NFE 2


def test_no_picture_where_nothing_can_be_ranked(tmp_path):
    for values in ({"a": {3: 1.0, 4: 2.0}}, {"a": {2: 1.0}, "b": {2: 2.0}}, {"a": {3: "failed"}, "b": {3: "failed"}}):
        rows = board(values)
        assert ranking.draw("rings", rows, pd.DataFrame(), tmp_path) == []
    assert not list(tmp_path.rglob("*.png"))


def test_marks_tell_all_statuses_apart():
    assert len({ranking.mark(status) for status in ANY}) == len(ANY)


def test_short_numbers_keep_two_digits():
    pairs = {1723.4: "1700", 12345.0: "12000", 123456.0: "1.2e5", 99.6: "100", 9.96: "10", 1.25e-3: "0.0013"}
    pairs |= {1.2e-4: "1.2e-4", 0.0999: "0.10", 3.0: "3.0", 0: "0", 9.96e-4: "0.0010"}
    assert {v: ranking.short(v) for v in pairs} == pairs
    assert all(len(ranking.short(10**k * 1.7)) <= 6 for k in range(-9, 10))


@pytest.fixture
def made_up(monkeypatch):
    """The synthetic datasets, known to a plan."""
    monkeypatch.setitem(facts.DATASETS, "glyphs", facts.Facts("image", (1, 8, 8), "fd_glyphs"))
    monkeypatch.setitem(facts.DATASETS, "rings", facts.Facts("vector", (2,), "w2"))


def plan_of(**section) -> Plan:
    known = registry.entered("baseline"), registry.entered("solver")
    section = {"baselines": known[0][:2], "solvers": known[1][:3], "accelerators": [], "nfe": [1, 3, 4, 7]} | section
    return Plan(make_study({"study": "made-up", "datasets": {"glyphs": section, "rings": section}}))


def test_every_listed_picture_is_drawn(made_up, tmp_path):
    plan, layout = plan_of(), Layout(tmp_path)
    results = crowd.make_crowd(tmp_path, plan.points)
    paths = set(figures.make_all(results))
    for dataset in ("glyphs", "rings"):
        listed = pictures(plan, layout, dataset)
        assert layout.root / "figures" / f"{dataset}_ranking.png" in listed
        assert set(listed) <= paths
        assert all(p.with_suffix(s).exists() for p in listed for s in (".png", ".svg", ".csv"))


def test_a_ranking_is_listed_only_where_there_is_one(made_up, tmp_path):
    names = lambda plan: [p.stem for p in pictures(plan, Layout(tmp_path), "rings")]  # noqa: E731
    assert "rings_ranking" in names(plan_of())
    assert "rings_ranking" not in names(plan_of(solvers=registry.entered("solver")[:1]))
    assert "rings_ranking" not in names(plan_of(nfe=[1, 2, 12]))


def test_figures_are_listed_where_there_is_something_to_show(made_up):
    def kinds(dataset: str, **section) -> set[str]:
        return {p.stem.removeprefix(f"{dataset}_") for p in pictures(plan_of(**section), Layout(Path()), dataset)}

    learnt = [s for s in registry.entered("solver") if registry.get(s, "solver").order == 0]
    fixed = [s for s in registry.entered("solver") if registry.get(s, "solver").order == 1]
    assert "schedules" in kinds("rings", solvers=[*fixed, learnt[0]], nfe=[2, 4])
    assert "schedules" not in kinds("rings", solvers=fixed)
    assert "trajectories_pca" in kinds("glyphs")
    assert "trajectories_pca" not in kinds("rings")
    network = {"training_curves", "quality_vs_gflop", "quality_vs_total_cost"}
    assert network <= kinds("rings")
    facts.DATASETS["rings"] = facts.Facts("vector", (2,), "ode_rmse", exact=True)
    assert not network & kinds("rings")


def test_values_are_the_leaderboards_means_over_seeds(tmp_path):
    plan = crowd.planned("rings", [("arc", "none"), ("arc", "bend")], crowd.names(6), [2, 3, 5, 8, 12], seeds=(0, 1, 2))
    results = crowd.make_crowd(tmp_path, plan, broken=17)
    rows = leaderboard.leaderboard(collected(results))
    ranking.draw("rings", rows, pd.DataFrame(), results)
    numbers = pd.read_csv(results / "figures/rings_ranking.csv")
    numbers = numbers.assign(entrant=numbers["model"] + "/" + numbers["solver"])
    both = numbers.merge(rows[rows["dataset"] == "rings"], on=["entrant", "nfe"], suffixes=("", "_board"))
    assert len(both) == len(numbers) == ((rows["kind"] == "entrant") & rows["nfe"].between(3, 10)).sum()
    assert (both["status"] == both["status_board"]).all()
    ok = both[both["status"] == "ok"]
    assert 0 < len(ok) < len(both)
    assert list(ok["value"]) == list(ok["mean"].map(leaderboard.rounded))
    best = ok.groupby(["model", "nfe"])["value"].transform("min")
    assert list(ok["ratio_to_best"]) == pytest.approx(list(ok["value"] / best), rel=1e-5)
