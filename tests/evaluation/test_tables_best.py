"""Rows that stand for the best of several entrants, for a control, and for one entrant of several made for one NFE."""

import csv as csvlib
import io
import math

import pytest
from latex import problems
from one_table import ANALOGUE, PLAN, by_place, cells, fill, frame, lines, of_model, rows

from evaluation import tables
from evaluation.tables.against import sentences
from evaluation.tables.ours import Measured
from evaluation.tables.sheet import sheet
from evaluation.tables.text import markdown

GFLOP = 0.125  # a call of the model's network


def point(entrant: str, nfe: int, value: float, calls: float | None = None, **changes) -> list[dict]:
    """A point of two blocks, `value` ± 0.5, whose samples cost `calls` calls (as many as its NFE unless told)."""
    cost = {"gflop_per_sample": GFLOP * (nfe if calls is None else calls)}
    values = [value - 0.5, value + 0.5]
    return rows(entrant, nfe, values, metric="w2", dataset="moons", **cost | changes)


BEST = {"ours": True, "entrant": "edm/*", "best_of": "training_free"}
FIXED = {  # a row of ours as a rival, the best at the same NFE, and the best at the same FLOPs
    "columns": [{"label": "W2"}],
    "metric": "w2",
    "dataset": "moons",
    "rows": [
        {"label": "warped", "nfe": 3, "entrant": "edm+warp/own", "against": ["best", "best, FLOPs"], "values": [1.0]},
        {"label": "best", "nfe": 3, **BEST},
        {"label": "best, FLOPs", "nfe": 3, **BEST, "as_costly_as": "warped"},
    ],
}


def found(records, **changes) -> dict[str, tuple]:
    [filled] = fill(records, **FIXED | changes)
    return {c.row: (c.entrant, c.nfe) for c in cells(filled).values() if c.ours}


def solvers(*more: list[dict], warped: float = 5.0, calls: float = 3.4):
    """Euler and Heun on EDM (Heun makes odd NFE alone) and a warped model of NFE 3, whose network beside costs 0.4."""
    return frame(
        point("edm+warp/own", 3, warped, calls=calls),
        *(point("edm/euler", nfe, v) for nfe, v in ((3, 9.0), (4, 8.0), (5, 4.0))),
        *(point("edm/heun", nfe, v) for nfe, v in ((3, 10.0), (5, 7.0))),
        *more,
    )


def test_the_best_is_the_one_with_the_least_mean_at_the_rows_nfe():
    assert found(solvers())["best"] == ("edm/euler", 3)
    assert found(solvers(point("edm/ddim", 3, 8.5)))["best"] == ("edm/ddim", 3)
    equal = solvers(point("edm/ddim", 3, 9.0))
    assert found(equal)["best"] == found(equal.sample(frac=1, random_state=1))["best"] == ("edm/ddim", 3)  # by name


def test_it_is_the_largest_where_higher_is_better():
    records = solvers().assign(metric="inception_score", primary="inception_score")
    assert found(records, metric="inception_score", dataset="moons")["best"] == ("edm/heun", 3)


def test_only_training_free_entrants_take_part():
    fitted = point("edm/bellman", 3, 1.0, fit_seconds=2.0, fit_teacher_calls=100)
    accelerated = point("edm+bend/euler", 3, 1.0)
    measured = Measured(solvers(fitted, accelerated))
    assert [measured.training_free("moons", name) for name in ("edm/euler", "edm/bellman", "edm+bend/euler")] == [
        True,
        False,
        False,
    ]
    wide = [row | {"entrant": "edm*/*"} if row.get("best_of") else row for row in FIXED["rows"]]
    assert found(solvers(fitted, accelerated), rows=wide)["best"] == ("edm/euler", 3)


def test_a_point_that_is_not_ok_is_not_the_best():
    failed = [row | {"status": "diverged", "metric": "", "value": None} for row in point("edm/ddim", 3, 0.0)]
    assert found(solvers(failed))["best"] == ("edm/euler", 3)


def test_at_equal_flops_each_may_go_up_to_its_least_nfe_that_costs_no_less():
    """3.4 calls' worth: Euler needs 4, Heun, which has odd NFE alone, 5; and then Heun is ahead."""
    assert found(solvers())["best, FLOPs"] == ("edm/heun", 5)  # 7.0 of Heun at 5 against 8.0 of Euler at 4
    assert found(solvers(calls=3.0))["best, FLOPs"] == ("edm/euler", 3)  # nothing beside: the NFE itself
    assert found(solvers(calls=3.0 * (1 + 1e-12)))["best, FLOPs"] == ("edm/euler", 3)  # but for rounding
    assert found(solvers(calls=4.1))["best, FLOPs"] == ("edm/euler", 5)
    zigzag = [point("edm/ddim", nfe, value) for nfe, value in ((3, 6.0), (4, 20.0))]
    assert found(solvers(*zigzag))["best, FLOPs"] == ("edm/ddim", 3)  # it need not spend what it may


def test_an_adaptive_solver_is_judged_by_what_it_used():
    """Asked for 5 and 9 calls it used 3.2 and 4.5."""
    adaptive = [point("edm/rk45", 5, 2.0, calls=3.2), point("edm/rk45", 9, 1.0, calls=4.5)]
    assert found(solvers(*adaptive))["best, FLOPs"] == ("edm/rk45", 9)


def test_an_nfe_that_costs_much_more_is_not_of_equal_flops():
    """A rule without an NFE between 3 and 15 has none that costs about 3.4 calls, however good it is at 15."""
    rare = [point("edm/ddim", nfe, value) for nfe, value in ((3, 9.5), (15, 0.0))]
    assert found(solvers(*rare))["best, FLOPs"] == ("edm/heun", 5)
    assert found(solvers(point("edm/ddim", 5, 0.0), *rare))["best, FLOPs"] == ("edm/ddim", 5)  # 1.47 times as many


def test_where_no_rival_is_as_costly_all_take_part():
    assert found(solvers(calls=20.0))["best, FLOPs"] == ("edm/euler", 5)


@pytest.mark.parametrize("calls", [0.0, math.nan])
def test_no_cost_leaves_the_cell_empty(calls):
    """A field in closed form costs nothing, and old records may not say."""
    assert "best, FLOPs" not in found(solvers(calls=calls)) and "best" in found(solvers(calls=calls))


def test_the_cost_is_the_mean_over_training_seeds():
    two = [point("edm/euler", 7, 1.0, calls=c, train_seed=s) for s, c in ((0, 6.0), (1, 8.0))]
    assert Measured(frame(*two)).gflop("moons", "edm/euler", 7) == pytest.approx(7 * GFLOP)


def test_rows_are_set_against_the_best_ones():
    """The blocks of both run alike, so that the paired difference has no spread."""
    [filled] = fill(solvers(), **FIXED)
    assert sentences(filled)[:2] == [
        "warped against best: better by 4.00 ± 0.",
        "warped against best, FLOPs: better by 2.00 ± 0.",
    ]
    same = {"label": "Euler", "nfe": 3, "entrant": "edm/euler", "against": "best"}
    [filled] = fill(solvers(), **FIXED | {"rows": [same, FIXED["rows"][1]], "confidence": "missing"})
    assert sentences(filled) == []  # it is the best itself


def test_the_cell_names_its_entrant_and_nfe_and_a_note_says_how_it_was_chosen():
    [filled] = fill(solvers(), **FIXED)
    readable = sheet(filled, PLAN)
    page = markdown(readable)
    assert lines(page)["best, FLOPs‡, ours"] == ["3", "7.00 ± 6.35 (edm/heun, NFE 5)"]
    assert "without a solver that is fitted" in page and "chosen by the same numbers that are shown" in page
    assert "At equal FLOPs (best, FLOPs: as warped)" in page
    assert problems(tables.text.latex(readable)) == []
    by_row = {row["row"]: row for row in csvlib.DictReader(io.StringIO(tables.text.csv(filled)))}
    assert (by_row["best, FLOPs"]["entrant"], by_row["best, FLOPs"]["nfe"]) == ("edm/heun", "5")
    assert (by_row["best"]["entrant"], by_row["best"]["nfe"]) == ("edm/euler", "3")


def test_the_best_stands_on_the_analogue_too():
    _, filled = fill(solvers(), **FIXED | {"dataset": "digits", "metric": "fid", "analogue": ANALOGUE})
    chosen = {c.row: (c.entrant, c.nfe) for c in by_place(filled).values() if c.chosen}
    assert chosen == {"best": ("edm/euler", 3), "best, FLOPs": ("edm/heun", 5)}
    page = markdown(sheet(filled, PLAN))
    assert lines(page)["best‡"] == ["3", "9.00 ± 6.35 (edm/euler, NFE 3)"]
    assert "best, FLOPs: better by 2.00 ± 0" in page


def test_a_best_row_may_stand_before_the_row_that_it_is_as_costly_as():
    turned = FIXED["rows"][::-1]
    [filled] = fill(solvers(), **FIXED | {"rows": turned})
    assert [line[0].entrant for line in filled.cells] == ["edm/heun", "edm/euler", "edm+warp/own"]


# Controls

CONTROL = {"kind": "control", "solver": "data", "baseline": "none", "model": "control"}
FLOOR = rows("data", 0, [0.25, 0.5], metric="w2", dataset="moons", **CONTROL)


def test_a_control_stands_at_every_nfe_and_for_no_model():
    table_rows = [{"label": "Euler", "entrant": "edm/euler"}, {"label": "floor", "ours": True, "entrant": "data"}]
    columns = [{"label": "Euler, NFE 3", "nfe": 3, "solver": "euler"}, {"label": "NFE 5", "nfe": 5}]
    columns.append({"label": "bending", "metric": "curvature"})
    changes = {"columns": columns, "rows": table_rows, "confidence": "missing"}
    records = frame(FLOOR, point("edm/euler", 3, 9.0), of_model("edm", "curvature", 0.25))
    _, filled = fill(records, **changes, analogue=ANALOGUE)
    assert lines(markdown(sheet(filled, PLAN)))["floor‡ (data)"] == ["0.375 ± 1.59", "0.375 ± 1.59", "–"]
    assert {c.nfe for c in by_place(filled).values() if c.entrant == "data"} == {0}


def test_controls_are_not_among_a_pattern_of_models():
    measured = Measured(frame(FLOOR, point("edm/euler", 3, 9.0)))
    assert measured.fitting("moons", ["edm", "*"], "euler") == ["edm/euler"]
    assert not measured.training_free("moons", "data")


# One entrant of several that are made for one NFE each


def test_of_models_made_for_one_nfe_the_one_that_has_it_stands_in_the_cell():
    made = frame(*(point(f"edm+warp{suffix}/own", nfe, nfe / 2) for suffix, nfe in (("", 5), ("-3", 3))))
    row = {"label": "warped", "entrant": ["edm+warp/own", "edm+warp-3/own"]}
    columns = [{"label": f"NFE {nfe}", "nfe": nfe} for nfe in (3, 5, 7)]
    [filled] = fill(made, columns=columns, rows=[row], metric="w2", dataset="moons", confidence="missing")
    by_column = {c.column: c for c in cells(filled).values()}
    assert [by_column[f"NFE {nfe}"].entrant for nfe in (3, 5)] == ["edm+warp-3/own", "edm+warp/own"]
    assert [by_column[f"NFE {nfe}"].ours.summary.mean for nfe in (3, 5)] == [1.5, 2.5]
    assert by_column["NFE 7"].ours is None and by_column["NFE 7"].entrant == "edm+warp/own"  # known, not run there
    page = lines(markdown(sheet(filled, PLAN)))
    assert page["warped, ours: edm+warp-3 / edm+warp"] == ["1.50 ± 6.35", "2.50 ± 6.35"]


def test_an_analogue_may_have_other_calls_where_the_paper_has_many():
    small = frame(*(point("edm/euler", nfe, 60.0 / nfe) for nfe in (3, 5)))
    columns = [{"label": "NFE 100", "nfe": 100}, {"label": "NFE 200", "nfe": 200}]
    row = {"label": "Euler", "entrant": "edm/euler", "values": [9.0, 5.0]}
    analogue = ANALOGUE | {"calls": {100: 3, 200: 5}}
    _, filled = fill(small, columns=columns, rows=[row], analogue=analogue)
    published, ours = sheet(filled, PLAN).blocks
    assert published.header == ["method", "NFE 100", "NFE 200"] and ours.header == ["method", "NFE 3", "NFE 5"]
    assert ours.lines == [["Euler (edm/euler)", "20.0 ± 6.35", "12.0 ± 6.35"]]
    of_rows = [row | {"nfe": 100, "values": [9.0]}, row | {"nfe": 5, "values": [12.0]}]
    _, filled = fill(small, columns=[{"label": "FID"}], rows=of_rows, analogue=analogue)
    published, ours = sheet(filled, PLAN).blocks
    assert [line[1] for line in published.lines] == ["100", "5"] and [line[1] for line in ours.lines] == ["3", "5"]
    assert [line[2] for line in ours.lines] == ["20.0 ± 6.35", "12.0 ± 6.35"]


# Bad files

MODEL = {"label": "warped", "nfe": 3, "entrant": "edm+warp/own", "values": [1.0]}
COSTLY = {"label": "best, FLOPs", "nfe": 3, **BEST, "as_costly_as": "warped"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ours": False}, "write `ours: true` and `entrant`"),
        ({"entrant": []}, "write `ours: true` and `entrant`"),
        ({"best_of": "training-free"}, "best_of"),
        ({"best_of": None}, "write `best_of: training_free`"),
        ({"as_costly_as": "warpd"}, "did you mean 'warped'"),
        ({"as_costly_as": "best, FLOPs"}, "needs one row with an entrant"),  # itself
        ({"as_costly_as": "a rival"}, "needs one row with an entrant"),
        ({"as_costly_as": "twice"}, "needs one row with an entrant"),
    ],
)
def test_a_best_row_that_cannot_be_is_refused(change, message):
    twice = [MODEL | {"label": "twice"}] * 2
    table_rows = [MODEL, {"label": "a rival", "values": [2.0]}, *twice, COSTLY | change]
    with pytest.raises(ValueError, match=message):
        fill(solvers(), **FIXED | {"rows": table_rows})
