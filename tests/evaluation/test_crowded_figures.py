"""Figures of a study with two dozen solvers: what is emphasised is what is best, and nothing gets lost."""

import pandas as pd
import pytest
from PIL import Image

from evaluation import figures, leaderboard
from evaluation.figures import emphasis
from fewstep import registry
from tests.evaluation import crowd
from tests.evaluation.synthetic import collected

MODELS = [("arc", "none"), ("line", "none"), ("arc", "bend")]
SOLVERS = crowd.names(24)
PLAIN = min(SOLVERS)  # none of them is known to the registry


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    plan = crowd.planned("glyphs", MODELS, SOLVERS, [1, 3, 4, 8])
    results = crowd.make_crowd(tmp_path_factory.mktemp("crowd"), plan)
    return results, leaderboard.leaderboard(collected(results)), figures.make_all(results)


def rows_of(means: dict[str, dict[int, float]]) -> pd.DataFrame:
    rows = [{"solver": s, "nfe": n, "mean": v, "status": "ok"} for s, by in means.items() for n, v in by.items()]
    return pd.DataFrame(rows)


def test_few_solvers_are_all_emphasised():
    assert emphasis.emphasised(rows_of({s: {1: 1.0} for s in "abcdefgh"})) == list("abcdefgh")


def test_of_many_solvers_the_winners_and_the_reference_are_emphasised():
    means = {s: {1: 9.0, 2: 5.0, 4: 5.0} for s in "abcdefghij"}  # all alike at one call
    means["d"][2], means["f"][4] = 1.0, 2.0
    assert emphasis.emphasised(rows_of(means)) == ["a", "d", "f"]
    assert emphasis.emphasised(rows_of(means), most=1) == ["d"]
    means |= {f"k{n}": {n: 0.1} for n in range(10, 30)}
    assert len(emphasis.emphasised(rows_of(means))) == emphasis.MOST


def test_reference_is_the_plainest_solver_of_first_order():
    known = {s: m for s, m in registry.of_kind("solver").items() if s in registry.entered("solver")}
    chosen = emphasis.reference(sorted(known))
    first = {s: m for s, m in known.items() if m.order == 1}
    assert chosen in first
    assert len(known[chosen].card.params) == min(len(m.card.params) for m in first.values())
    assert emphasis.reference(["unknown_b", "unknown_a"]) == "unknown_a"


COSTS = ["quality_vs_nfe", "quality_vs_seconds", "quality_vs_gflop", "quality_vs_total_cost"]


@pytest.mark.parametrize("kind", COSTS)
def test_lines_hold_all_points_and_emphasise_few(drawn, kind):
    results, board, _ = drawn
    numbers = pd.read_csv(results / f"figures/glyphs_{kind}.csv", keep_default_na=False, na_values=[""])
    ok = board[board["status"] == "ok"]
    assert set(zip(numbers["entrant"], numbers["nfe"], strict=True)) == set(zip(ok["entrant"], ok["nfe"], strict=True))
    lines = numbers[numbers["baseline"] != "none"]
    for _, model in lines.groupby(["baseline", "accelerator"]):
        bright = model[model["emphasised"]]
        assert 1 < bright["solver"].nunique() <= emphasis.MOST
        assert PLAIN in set(bright["solver"])
        best = model.loc[model.groupby("nfe")["mean"].idxmin()]
        if kind == "quality_vs_nfe" and bright["solver"].nunique() < emphasis.MOST:
            assert best["emphasised"].all()
    with Image.open(results / f"figures/glyphs_{kind}.png") as image:
        assert PLAIN in image.text["Description"]


def test_on_a_front_of_many_solvers_those_with_most_points_are_emphasised():
    rows = rows_of({s: {1: 9.0, 2: 5.0} for s in "abcdefghij"}).assign(pareto=False)
    rows.loc[(rows["solver"] == "d") | ((rows["solver"] == "f") & (rows["nfe"] == 2)), "pareto"] = True
    assert emphasis.ahead(rows) == ["a", "d", "f"]
    assert emphasis.ahead(rows, most=1) == ["d"]
    assert emphasis.ahead(rows[rows["solver"] < "e"]) == list("abcd")


def test_sample_grid_shows_the_best_of_each_model(drawn):
    _, board, paths = drawn
    grids = [p for p in paths if p.match("glyphs_sample_grid_*.csv")]
    assert len(grids) == 2
    for path in grids:
        shown = pd.read_csv(path)
        nfe = shown["nfe"].iloc[0]
        rows = board[(board["nfe"] == nfe) & (board["kind"] == "entrant") & (board["status"] == "ok")]
        for baseline, block in shown.groupby(shown["entrant"].str.split("[+/]", regex=True).str[0]):
            assert len(block) <= emphasis.MOST
            entered = rows[rows["baseline"] == baseline]
            for _, model in entered.groupby("accelerator"):
                assert model.loc[model["mean"].idxmin(), "entrant"] in set(block["entrant"])


def test_rows_of_a_small_grid_stay_all_and_the_failed_come_last():
    rows = rows_of({"a": {3: 2.0}, "b": {3: 1.0}, "c": {3: 0.5}})
    rows.loc[rows["solver"] == "c", "status"] = "failed"
    assert list(emphasis.best_first(rows, 3)["solver"]) == ["b", "a", "c"]
    assert list(emphasis.best_first(rows, 2)["solver"]) == ["b", "a"]


def test_of_rows_that_tie_one_stands_for_all_where_some_are_left_out():
    rows = rows_of({s: {1: 7.0} for s in "pqrst"} | {"z": {1: 9.0}, "y": {1: 3.0}})
    assert list(emphasis.best_first(rows, 4)["solver"]) == ["y", "p", "z"]
    assert len(emphasis.best_first(rows, 7)) == 7
