"""Published tables beside ours: what is compared, what is not, and that the files are sound."""

import csv as csvlib
import io
import math
import shutil

import pandas as pd
import pytest
from latex import problems
from one_table import ANALOGUE, MODELS, PLAN, RECORDS, SMALL, by_place, cells, fill, frame, lines, of_model, paper, rows

from evaluation import records as recs
from evaluation import tables
from evaluation.papers import FOLDER, papers
from evaluation.statistics import Summary
from evaluation.tables.ours import Measured, Ours
from evaluation.tables.sheet import sheet
from evaluation.tables.text import CSV_COLUMNS, escape, latex, markdown
from evaluation.tables.verdict import obstacles, verdict
from fewstep.__main__ import run
from fewstep.codehash import _with_data, closure
from fewstep.config import load_study
from fewstep.plan import Plan
from fewstep.registry import ROOT

DEFAULT = ROOT / "results" / "published" / "default"

# Verdicts


def summary(mean, half=math.nan, count=3):
    return Summary(mean, math.nan, mean - half, mean + half, count, 1, "blocks" if half == half else "none")


@pytest.mark.parametrize(
    ("metric", "published", "mean", "half", "expected"),
    [
        ("fid", 2.00, 2.30, 0.31, "agrees"),  # inside our interval
        ("fid", 2.00, 2.30, 0.20, "worse"),
        ("fid", 2.00, 1.70, 0.20, "better"),
        ("fid", 2.00, 2.049, 0.01, "agrees"),  # within 0.05, which is more than 2 %
        ("fid", 2.00, 2.051, 0.0009, "worse"),
        ("fid", 50.0, 50.99, 0.01, "agrees"),  # within 2 %, which is more than 0.05
        ("fid", 50.0, 51.01, 0.001, "worse"),
        ("fid", 2.00, 2.04, math.nan, "agrees"),  # a single value has no interval
        ("fid", 2.00, 2.06, math.nan, "worse"),
        ("w2", 0.500, 0.501, 0.0005, "worse"),  # no tolerance but the interval
        ("inception_score", 9.0, 9.5, 0.1, "better"),  # higher is better
        ("inception_score", 9.0, 8.5, 0.1, "worse"),
    ],
)
def test_verdict(metric, published, mean, half, expected):
    assert verdict(metric, published, Ours("ok", summary=summary(mean, half), smallest=mean)) == expected


def test_the_best_of_several_runs_is_compared_with_our_best():
    ours = Ours("ok", summary=summary(2.06, 0.05), smallest=2.01)
    assert verdict("fid", 1.97, ours) == "worse"
    assert verdict("fid", 1.97, ours, minimum=True) == "agrees"


def test_cells_are_compared_where_everything_agrees():
    [filled] = fill()
    found = cells(filled)
    assert found["Heun", "NFE 3"].verdict == "agrees"  # 9.5 lies in 9.4 ± 0.99
    assert found["Heun", "NFE 5"].verdict == "worse"
    assert found["Euler", "NFE 3"].verdict == "better"
    assert found["Euler", "NFE 3"].entrant == "edm/euler"  # by its pattern
    assert found["Euler", "NFE 5"].verdict == found["a rival", "NFE 3"].verdict == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_generated": 10000}, "10,000 samples there, 50,000 here"),
        ({"n_generated": None}, "the paper's number of samples is not known"),
        ({"n_reference": 50000}, "50,000 reference samples there, 1,797 here"),
        ({"n_reference": None}, "the paper's number of reference samples is not known"),
        ({"extractor": "clean-fid"}, "the features of clean-fid are not ours"),
        ({"extractor": ""}, "the features of its FID code are not ours"),
        ({"minimum_of": 5}, "the best of 5 runs of one model there, 3 here"),
    ],
)
def test_a_protocol_that_differs_leaves_no_verdict(changes, reason):
    [filled] = fill(**changes)
    assert {cell.verdict for cell in cells(filled).values()} == {""}
    assert cells(filled)["Heun", "NFE 3"].obstacles == (reason,)
    page = markdown(sheet(filled, PLAN))
    assert f"No verdict: {reason}." in page and "agrees" not in page


def test_a_sampler_that_runs_otherwise_leaves_no_verdict():
    row = {
        "label": "Heun",
        "entrant": ["edm/heun"],
        "values": [9.5, 2.0],
        "params": {"schedule": "karras", "end": "t_min"},
    }
    [filled] = fill(rows=[row])
    assert cells(filled)["Heun", "NFE 3"].obstacles == ("end is t_min there, zero here",)  # EDM's `auto` is karras
    [filled] = fill(rows=[row | {"params": {"schedule": "karras", "end": "zero", "S_churn": 0}}])
    assert cells(filled)["Heun", "NFE 3"].verdict == "agrees"


def test_fid_on_other_features_is_another_metric():
    records = frame(rows("edm/heun", 3, [9.0, 9.4, 9.8], metric="fid_pytorch"))
    [on_tf, on_pytorch] = [
        tables.fill(records, PLAN, paper(extractor=e))[0] for e in ("inception", "inception_pytorch")
    ]
    assert cells(on_tf)["Heun", "NFE 3"].ours is None
    assert cells(on_pytorch)["Heun", "NFE 3"].verdict == "agrees"


def test_another_dataset_is_not_ours():
    [filled] = fill(dataset="cifar10")
    assert filled.ours == []


def test_curvature_is_looked_up_by_model():
    curvature = {"kind": "reference", "entrant": "edm", "solver": "", "n_generated": 128, "n_reference": None}
    records = frame(rows("edm/heun", 3, [9.0]), [r | curvature for r in rows("edm", None, [0.13], metric="curvature")])
    ours = Measured(records).look_up("digits", "edm/heun", None, "curvature")
    assert ours.summary.mean == 0.13


# Statuses


def test_a_point_that_is_not_ok_shows_its_status():
    failed = {"status": "failed", "reason": "boom", "metric": "", "value": None}
    records = frame(rows("edm/heun", 3, [9.0, 9.1]), [row | failed for row in rows("edm/heun", 5, [0.0])])
    [filled] = fill(records)
    page = markdown(sheet(filled, PLAN))
    assert "| ours: edm/heun | 9.05 ± 0.635, agrees | failed |" in page
    assert "| ours | not run | – |" in page  # Euler: at NFE 5 nothing is published either
    assert "| a rival | 1.0 | 1.0 |" in page


def test_one_seed_that_failed_spoils_a_point():
    failed = rows("edm/heun", 3, [0.0], status="diverged", reason="NaN", metric="", train_seed=1)
    [filled] = fill(frame(rows("edm/heun", 3, [9.0]), [row | {"value": None} for row in failed]))
    assert cells(filled)["Heun", "NFE 3"].ours.status == "diverged"


# Analogues


def test_an_analogue_may_have_an_nfe_of_its_own():
    row = {"label": "Heun", "entrant": "edm/heun", "nfe": 127, "values": [2.5]}
    _, filled = fill(SMALL, rows=[row], columns=[{"label": "FID"}], analogue=ANALOGUE | {"nfe": 5})
    assert filled.cells[0][0].nfe == 127 and filled.analogue[0][0].nfe == 5
    published, ours = sheet(filled, PLAN).blocks
    assert published.lines == [["Heun", "127", "2.5"]] and ours.lines == [["Heun (edm/heun)", "5", "0.450 ± 0.635"]]
    assert ours.header == ["method", "NFE", "W₂"]


def test_an_analogue_stands_apart_and_has_no_verdict():
    printed, filled = fill(SMALL, analogue=ANALOGUE)
    assert printed.ours == [] and len(filled.ours) == 2 and filled.name == "nobody_one_on_moons"
    assert {c.verdict for line in [*filled.cells, *filled.analogue] for c in line} == {""}
    page = markdown(sheet(filled, PLAN))
    assert "analogue on moons" in page.splitlines()[0] and "Compare the order of the methods, not the numbers" in page
    blocks = page.split("**Ours: moons, W₂**")
    assert "**Published: digits, FID**" in blocks[0] and "0.450" in blocks[1] and "0.450" not in blocks[0]
    assert not any(word in page for word in ("agrees", "better", "worse"))
    for row in csvlib.DictReader(io.StringIO(tables.text.csv(filled))):
        assert not (row["published"] and row["mean"]) and row["verdict"] == ""


UNKNOWN = {  # a table whose values were not found
    "confidence": "missing",
    "columns": [
        {"label": "Heun, NFE 3", "solver": "heun", "nfe": 3},
        {"label": "Euler, NFE 3", "solver": "euler", "nfe": 3},
        {"label": "bending", "metric": "curvature"},
        {"label": "codes", "metric": "codes_used", "ours": True},
    ],
    "rows": [
        {"label": "RF", "entrant": "rf"},
        {"label": "Bend", "entrant": "rf+bend"},
        {"label": "Fold", "entrant": "rf+fold"},
        {"label": "a rival"},
        {"label": "control", "ours": True, "entrant": "rf+bend*"},
        {"label": "a control not run", "ours": True, "entrant": "rf+bend-random"},
    ],
    "analogue": ANALOGUE,
}


def test_a_row_may_name_a_model_and_its_columns_the_solver_or_a_metric_of_models():
    _, filled = fill(MODELS, **UNKNOWN)
    found = {key: (cell.entrant, cell.ours.summary.mean) for key, cell in by_place(filled).items() if cell.ours}
    assert found["RF", "Heun, NFE 3"] == ("rf/heun", 0.8)  # never rf+bend's, which sorts before
    assert found["RF", "Curvature"] == ("rf", 0.25) and ("RF", "Euler, NFE 3") not in found
    assert found["Bend", "Euler, NFE 3"] == ("rf+bend/euler", pytest.approx(0.45))
    assert Measured(MODELS).entrant("moons", ["*heun"]) == ""  # a model's pattern fits no entrant
    assert found["Bend", "Codes in use"] == ("rf+bend", 60) and ("RF", "Codes in use") not in found


def test_values_that_were_not_found_leave_no_published_block_and_ours_are_shown():
    _, filled = fill(MODELS, **UNKNOWN)
    page = markdown(sheet(filled, PLAN))
    assert "**Published" not in page and "Table 1; its values were not found." in page
    assert "Compare the order" not in page  # there is nothing to compare with
    found = lines(page)
    assert found["RF (rf)"] == ["0.800 ± 0", "not run", "0.250", "–"]  # no codes: a model without a code has none
    assert found["Bend (rf+bend)"] == ["0.450 ± 0.635", "0.450 ± 0.635", "0.125", "60.0"]
    assert found["Fold"] == ["not run"] * 4 and found["a rival"] == ["–"] * 4


def test_rows_and_columns_of_ours_are_marked_and_stand_where_the_study_has_them():
    _, filled = fill(MODELS, **UNKNOWN)
    readable = sheet(filled, PLAN)
    page = markdown(readable)
    assert "control‡ (rf+bend)" in lines(page) and "a control not run" not in page
    assert "| Curvature | Codes in use‡ |" in page and "- ‡ not in the paper.\n" in page
    assert problems(latex(readable)) == []
    kept = list(csvlib.DictReader(io.StringIO(tables.text.csv(filled))))
    assert {row["confidence"] for row in kept if row["row"] == "control"} == {"not in the paper"}
    assert {row["row"] for row in kept if row["dataset"] == "digits"} == {"RF", "Bend", "Fold", "a rival"}
    assert not any(row["column"] == "codes" for row in kept)


def test_on_the_paper_s_own_dataset_rows_without_values_show_ours_alone():
    records = MODELS.assign(dataset="digits", metric=MODELS["metric"].replace("w2", "fid"))
    [filled] = fill(records, **UNKNOWN | {"analogue": None})
    found = lines(markdown(sheet(filled, PLAN)))
    assert found["RF, ours: rf"] == ["0.800 ± 0", "not run", "0.250", "–"] and "RF" not in found
    assert found["control‡, ours: rf+bend"][-1] == "60.0" and found["a rival"] == ["–"] * 4
    assert {cell.verdict for line in filled.cells for cell in line} == {""}


def test_an_analogue_replaces_metrics_on_features_and_keeps_all_others():
    columns = [{"label": "FID", "nfe": 3}, {"label": "IS", "metric": "inception_score", "nfe": 3}]
    columns.append({"label": "bending", "metric": "curvature"})
    row = {"label": "RF", "entrant": "rf/heun", "values": [9.0, 8.0, 0.2]}
    _, filled = fill(MODELS, columns=columns, rows=[row], analogue=ANALOGUE)
    assert [(c.column, c.metric) for c in filled.analogue[0]] == [("NFE 3", "w2"), ("Curvature", "curvature")]
    assert [c.ours.summary.mean for c in filled.analogue[0]] == [0.8, 0.25]
    assert "ours are W₂ / Curvature on moons, other data and another metric" in markdown(sheet(filled, PLAN))
    _, filled = fill(MODELS, columns=columns[2:], rows=[row | {"values": [0.2]}], analogue={"dataset": "moons"})
    assert "ours are Curvature on moons, other data than published" in markdown(sheet(filled, PLAN))


def test_the_published_block_has_the_rows_and_columns_of_which_a_value_was_found():
    table_rows = [{"label": "Heun", "entrant": "edm/heun", "values": [None, 2.5]}]
    table_rows += [{"label": "Euler", "entrant": "edm/euler"}]
    _, filled = fill(SMALL, rows=table_rows, analogue=ANALOGUE)
    published, ours = sheet(filled, PLAN).blocks
    assert (published.header, published.lines) == (["method", "NFE 5"], [["Heun", "2.5"]])
    assert ours.header == ["method", "NFE 3", "NFE 5"] and ours.lines[1] == ["Euler", "not run", "not run"]
    assert "No published value was found of Euler." in sheet(filled, PLAN).notes


def test_controls_of_ours_alone_make_no_table(tmp_path):
    control = frame(of_model("rf+bend-random", "curvature", 0.5))
    assert fill(control, **UNKNOWN)[1].ours
    tables.write(control, PLAN, tmp_path, paper(**UNKNOWN))
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["index.csv", "index.md"]


def test_the_index_says_where_values_were_not_found(tmp_path):
    tables.write(MODELS, PLAN, tmp_path, paper(**UNKNOWN))
    assert "analogue on moons | Table 1 | not found | 10 |" in (tmp_path / "tables" / "index.md").read_text()


def test_columns_that_differ_by_dataset_alone_are_one_on_the_analogue():
    columns = [{"label": "digits", "nfe": 3}, {"label": "CIFAR-10", "dataset": "cifar10", "nfe": 3}]
    _, filled = fill(SMALL, columns=columns, analogue=ANALOGUE)
    assert [cell.column for cell in filled.analogue[0]] == ["NFE 3"] and len(filled.cells[0]) == 2


def test_the_lowest_block_is_shown_only_where_the_paper_prints_its_best_run():
    assert "least" not in markdown(sheet(fill()[0], PLAN))
    page = markdown(sheet(fill(minimum_of=3)[0], PLAN))
    assert "9.40 ± 0.994, least 9.00, agrees" in page and "the verdict takes our least block" in page


# Files


def test_only_tables_with_a_number_of_ours_are_written_and_old_ones_go(tmp_path):
    stale = tmp_path / "tables" / "old_table.csv"
    stale.parent.mkdir()
    stale.write_text("x")
    known = paper() | {"other": paper(dataset="cifar10")["nobody"]}
    names = [path.name for path in tables.write(RECORDS, PLAN, tmp_path, known)]
    assert names == ["index.csv", "index.md", "nobody_one.csv", "nobody_one.md", "nobody_one.tex"]
    assert sorted(path.name for path in stale.parent.iterdir()) == names
    index = pd.read_csv(stale.parent / "index.csv")
    assert index[["file", "printed", "with_counterpart", "ours", "agrees", "better", "worse"]].values.tolist()[0] == [
        *("nobody_one", 5, 3, 3, 1, 1, 1)
    ]
    assert "Without a number of ours" in (stale.parent / "index.md").read_text()


def test_the_bytes_do_not_depend_on_the_order_of_records(tmp_path):
    tables.write(RECORDS, PLAN, tmp_path / "a", paper())
    tables.write(RECORDS.sample(frac=1, random_state=0), PLAN, tmp_path / "b", paper())
    for path in sorted((tmp_path / "a" / "tables").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / "tables" / path.name).read_bytes()


def test_the_csv_has_a_row_a_cell_with_the_printed_digits():
    [filled] = fill()
    found = list(csvlib.DictReader(io.StringIO(tables.text.csv(filled))))
    assert list(found[0]) == CSV_COLUMNS and len(found) == 6
    assert found[0]["published"] == "9.5" and float(found[0]["mean"]) == pytest.approx(9.4)
    assert [row["status"] for row in found] == ["ok", "ok", "ok", "", "", ""]


@pytest.fixture(scope="module")
def published():
    """Every table there is, filled from the committed default study."""
    return tables.fill(recs.load(DEFAULT), Plan(load_study(DEFAULT / "study.json")))


def test_every_table_is_sound_latex_and_markdown(published):
    plan = Plan(load_study(DEFAULT / "study.json"))
    for filled in published:
        readable = sheet(filled, plan)
        assert problems(latex(readable)) == [], filled.name
        widths = {line.count("|") - line.count("\\|") for line in markdown(readable).splitlines() if line[:1] == "|"}
        assert len(widths) == (1 if filled.analogue is None else len({len(b.header) for b in readable.blocks}))


def test_the_default_study_has_analogues_and_no_verdict(published):
    """It runs nothing at a paper's scale, so nothing in it may agree with one or beat it."""
    assert sum(bool(filled.ours) for filled in published if filled.analogue) >= 10
    assert not any(cell.verdict for filled in published for line in filled.cells for cell in line)
    for filled in published:
        if filled.analogue is None:
            assert not filled.ours or {c.dataset for c in filled.ours} <= {"digits", "eight_gaussians", "moons"}


def test_our_numbers_are_the_leaderboard_s(published):
    board = pd.read_csv(DEFAULT / "leaderboard.csv").set_index(["dataset", "entrant", "nfe"])["mean"]
    ours = [cell for filled in published for cell in filled.ours if cell.metric in ("fd_digits", "w2")]
    assert len(ours) > 50
    for cell in ours:
        assert cell.ours.summary.mean == pytest.approx(board[cell.dataset, cell.entrant, cell.nfe], rel=1e-5)


def test_no_published_table_is_lost(published):
    assert {f.name for f in published if f.analogue is None} == {
        f"{p}_{t}" for p in papers() for t in papers()[p].tables
    }


# LaTeX


def test_special_characters_are_escaped():
    assert escape("5 % of a_b & {c} #1 ~ 2^3 \\ $") == (
        "5 \\% of a\\_b \\& \\{c\\} \\#1 \\textasciitilde{} 2\\textasciicircum{}3 \\textbackslash{} \\$"
    )


def test_the_latex_check_sees_what_is_wrong():
    good = latex(sheet(fill()[0], PLAN))
    assert problems(good) == []
    for old, new in (("&", "& &"), ("\\end{tabular}", ""), ("\\%", "%"), ("ours:", "ours_:"), ("\\pm", "\\nope")):
        assert old in good and problems(good.replace(old, new, 1)), old


def test_obstacles_are_none_for_the_same_protocol():
    ours = Ours("ok", summary=summary(1.0, 0.1), n_generated=50000, n_reference=1797)
    one = paper()["nobody"].tables["one"]
    assert obstacles(one, one.rows[0], "fid", ours, {}) == []


# The command


def test_the_command_writes_the_tables(tmp_path, capsys):
    shutil.copy(DEFAULT / "records.parquet", tmp_path)
    with pytest.raises(SystemExit) as done:
        run(["tables", "--study", str(DEFAULT / "study.json"), "--results", str(tmp_path)])
    assert done.value.code == 0 and capsys.readouterr().out.strip() == str(tmp_path / "tables" / "index.md")
    assert (tmp_path / "tables" / "diff_sampler_cifar10_on_digits.tex").exists()


def test_the_command_needs_a_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as done:
        run(["tables", "--study", str(DEFAULT / "study.json"), "--results", str(tmp_path)])
    assert done.value.code == 2 and "has no records.parquet; run the study first" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_edited_number_makes_the_tables_anew():
    """Snakemake's key of the rule hashes the papers' files, and no scoring job's does."""
    assert FOLDER / "mac.yaml" in _with_data(closure("evaluation.tables"))
    assert not any(file.parent == FOLDER for file in _with_data(closure("evaluation.stages.score")))
