"""The page as a file: what it holds, refers to and says, without a browser."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from evaluation import figures, records
from evaluation.figures import palette
from evaluation.site import build, looks, papers, pictures, points, rows
from tests.evaluation.conftest import SHEET
from tests.evaluation.synthetic import make_results

DATA_URL = "data:image/png;base64,"


@pytest.fixture(scope="module")
def page(published):
    return (published[0] / "index.html").read_text()


@pytest.fixture(scope="module")
def study(page):
    """What the scripts read."""
    return json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.S)[1])


class Reader(HTMLParser):
    """Collects what a page refers to, and its balance of tags."""

    def __init__(self):
        super().__init__()
        self.references, self.rows, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.references += [attrs[k] for k in ("src", "href") if attrs.get(k)]
        if tag == "tr" and "data-nfe" in attrs:
            self.rows.append(attrs)
        if tag not in ("meta", "link", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def test_page_is_self_contained_and_its_links_exist(published, page):
    results = published[0]
    assert "http://" not in page
    assert "https://" not in page
    ids = set(re.findall(r' id="([^"]+)"', page))
    references = read(page).references
    for reference in references:
        if reference.startswith("#"):
            assert reference[1:] in ids
        elif not reference.startswith("data:"):
            assert (results / reference).is_file(), reference
    assert "logs/sample/rings/seed0/arc/euler.log" in references
    assert "figures/entrants/glyphs/seed0/arc/euler.png" in references
    shown = sorted((results / "figures").glob("*.*"))
    assert page.count(DATA_URL) == sum(path.suffix == ".png" for path in shown) > 0
    assert {path.relative_to(results).as_posix() for path in shown} <= set(references)


def test_every_planned_point_is_on_the_page(published, page, study):
    plan = json.loads((published[0] / "plan.json").read_text())
    planned = {(p["dataset"], p["entrant"], p["nfe"]) for p in plan}
    reader = read(page)
    assert sorted((r["data-text"].split()[0], int(r["data-nfe"])) for r in reader.rows) == sorted(
        (entrant, nfe) for _, entrant, nfe in planned
    )
    keys = {f"{dataset}/{entrant}/{nfe}" for dataset, entrant, nfe in planned}
    assert keys == {row["data-key"] for row in reader.rows} == set(study["points"])


def test_the_panels_numbers_are_the_leaderboards(published, study):
    """Mean and interval are the table's; the values are those whose mean it is."""
    board = pd.read_csv(published[0] / "leaderboard.csv", keep_default_na=False, na_values=[""])
    for row in board[board["status"] == "ok"].to_dict("records"):
        point = study["points"][f"{row['dataset']}/{row['entrant']}/{row['nfe']}"]
        metric = point["metrics"][row["metric"]]
        assert [metric[k] for k in ("mean", "low", "high")] == [row[k] for k in ("mean", "low", "high")]
        assert len(metric["values"]) == row["n_values"]
        mean = sum(value for *_, value in metric["values"]) / len(metric["values"])
        assert mean == pytest.approx(row["mean"], rel=1e-4)
        assert point["costs"]["gflop_per_sample"][0] == row["gflop_per_sample"]


def test_networks_beside_the_models_are_named_only_where_some_method_has_one(published):
    """A study where they cost nothing shows no column for them; where they do, cost and total stand together."""
    board = pd.read_csv(published[0] / "leaderboard.csv", keep_default_na=False, na_values=[""])
    tidy = records.load(published[0])
    helped = (board["dataset"] == "rings") & (board["entrant"] == "arc/heun")
    for gflop, shown in ((0.0, False), (0.0025, True)):
        made = board.assign(helper_gflop_per_sample=0.0, helper_seconds_per_sample=0.0)
        made.loc[helped, ["helper_gflop_per_sample", "helper_seconds_per_sample"]] = gflop, gflop / 100
        table = rows.table("rings", made[made["dataset"] == "rings"], [0, 1], published[0])
        titles = [column["title"] for column in table["columns"]]
        assert ("Helper GFLOP" in titles) == ("Helper ms / sample" in titles) == shown
        drawn = points.data(made, tidy, published[0])["points"]
        text = drawn["rings/arc/heun/5"]["costs"]["gflop_per_sample"][1]
        assert text == ("0.0500, of it 0.00250 beside the model's network" if shown else "0.0500")
        assert drawn["rings/arc/euler/5"]["costs"]["gflop_per_sample"][1] == "0.0500"


def test_every_point_leads_to_its_files_and_its_origin(published, study):
    results = published[0]
    for point in study["points"].values():
        assert set(point["runs"]) == {"0", "1"}
        for seed, run in point["runs"].items():
            origin = study["provenance"][run["provenance"]]
            if "no score file" in point["reason"] and seed == "1":
                assert origin == {}
            else:
                assert origin["commit"] == "abc1234"
                assert (results / run["log"]).is_file()
                assert (results / run["samples"]).is_file()
                assert f"seed{seed}" in run["log"]


def test_failures_stand_at_the_top_and_text_is_escaped(page):
    top = page[: page.index('class="dataset"')]
    assert "glyphs: arc+fold/heun at NFE 1, 2, 5" in top
    assert "no score file" in top
    assert "no answer after &lt;60&gt; s" in top
    assert "<60>" not in page
    assert "needs 2 calls" not in top  # skipped by the rules of a solver is no failure


def test_hostile_text_stays_text(tmp_path):
    """A reason or a label may hold anything: it ends no script and opens no tag."""
    results, hostile = make_results(tmp_path, seeds=(0,), baselines=("arc",)), "</script><b id='x'>\"&amp; <!--"
    for file in (results / "scores/rings").rglob("*.json"):
        document = json.loads(file.read_text())
        document["label"] = hostile
        document["points"][0] |= {"status": "failed", "reason": hostile, "metrics": []}
        file.write_text(json.dumps(document))
    page = build(results).read_text()
    assert "<b id" not in page and "<!--" not in page
    assert page.count("<script") == page.count("</script>")
    found = json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.S)[1])
    assert found["points"]["rings/arc/heun/1"]["reason"] == hostile


def test_page_without_figures_or_scores(tmp_path):
    plan = [{"dataset": "d", "entrant": "b/s", "kind": "entrant", "baseline": "b", "accelerator": "none"}]
    (tmp_path / "plan.json").write_text(json.dumps([plan[0] | {"solver": "s", "train_seed": 0, "nfe": 3}]))
    assert figures.make_all(tmp_path) == []
    page = build(tmp_path).read_text()
    assert "d: b/s at NFE 3" in page
    assert "no score file" in page
    assert 'id="papers"' not in page  # no tables either


def test_page_is_byte_stable(published, page):
    assert build(published[0]).read_text() == page


def test_papers_tables_are_read_as_they_were_written():
    assert papers.read(SHEET) == {
        "title": "Smith: Few steps | fewer – published and ours",
        "blocks": [
            {
                "heading": "Published: CIFAR_10",
                "header": ["method", "NFE 1", "NFE 2"],
                "lines": [["Euler", "3 | 4", "2.5"], ["ours: rf/euler", "126 ± 0.5", "–"]],
            },
            {"heading": "Ours", "header": ["method", "NFE 1"], "lines": [["Heun", "7"]]},
        ],
        "notes": ["A note with *stars*."],
    }


def test_papers_tables_are_shown_and_linked(page):
    references = read(page).references
    assert {"tables/index.md", "tables/smith_t2.md", "tables/smith_t2.tex"} <= set(references)
    assert "tables/smith_t2.csv" not in references  # there is none
    assert "126 ± 0.5" in page
    assert "1 of ours, 4 published: 1 agrees" in page


def row_of(board, **changes):
    """The table's context of one row, with other values in some columns."""
    board = board[(board["dataset"] == "rings") & (board["entrant"] == "arc/heun") & (board["nfe"] == 5)]
    table = rows.table("rings", board.assign(**changes), [0], Path("nowhere"))
    return table, table["rows"][0]


def test_rank_range_warning_and_skipped_metrics_are_shown(published):
    board = published[1]
    _, plain = row_of(board, rank=2, rank_low=2, rank_high=2)
    assert (plain["rank"], plain["range"]) == ("2", "")
    table, row = row_of(
        board, rank=2, rank_low=1, rank_high=5, warning="singular: 3 samples", skipped="fid: weights; kid: too few"
    )
    assert (row["rank"], row["range"], row["warning"]) == ("2", "(1–5)", "singular: 3 samples")
    titles = [column["title"] for column in table["columns"]]
    numbers = titles[titles.index("w2") + 1 :]  # of the columns after the primary metric's
    shown = dict(zip(numbers, [number["text"] for number in row["numbers"]], strict=False))
    assert (shown["fid"], shown["kid"]) == ("skipped (weights)", "skipped (too few)")


def test_older_boards_without_the_newer_columns_are_shown(published):
    newer = ["warning", "skipped", "rank_low", "rank_high"]
    board = published[1].drop(columns=[c for c in newer if c in published[1]])
    _, row = row_of(board)
    assert (row["range"], row["warning"]) == ("", "")


def test_curves_look_as_the_figures_do(published, study):
    assert set(palette.MARKERS) <= set(looks.SYMBOLS)
    assert len(set(looks.SYMBOLS.values())) == len(looks.SYMBOLS)
    board = published[1]
    entrants = board[board["kind"] == "entrant"]
    for method in {*entrants["solver"], *entrants["accelerator"]} - {"none"}:
        assert study["looks"]["colour"][method] == palette.colour(method)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("quality_vs_nfe", "Quality against NFE"),
        ("sample_grid_nfe5", "Samples from the same latents, NFE 5"),
        ("codes_rf+bend_fold", "What the codes stand for, rf+bend_fold"),
        ("something_new_nfe2", "Something new nfe2"),
    ],
)
def test_titles_of_figures(name, title):
    assert pictures.title(name) == title
