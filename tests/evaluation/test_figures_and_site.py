"""Figures and the page on the synthetic results folder of test_leaderboard."""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from PIL import Image

from evaluation import figures, leaderboard, records
from evaluation.figures.style import Style
from evaluation.site import build
from tests.evaluation.test_leaderboard import collected, make_results


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = make_results(tmp_path_factory.mktemp("drawn"))
    tidy = collected(results)
    records.write(tidy, results)
    leaderboard.write(tidy, results)
    log = results / "logs/sample/rings/seed0/arc/euler.log"
    log.parent.mkdir(parents=True)
    log.write_text("done")
    paths = figures.make_all(results)
    return results, leaderboard.leaderboard(tidy), paths, build(results).read_text()


def test_every_figure_is_png_svg_and_csv_below_1200_px(study):
    results, _, paths, _ = study
    drawn = sorted(p for p in paths if p.parent == results / "figures")
    assert len(drawn) == len(set(drawn))
    stems = {p.stem for p in drawn}
    both = ("quality_vs_nfe", "ranking", "quality_vs_seconds", "curvature")
    expected = {f"{d}_{kind}" for d in ("glyphs", "rings") for kind in both}
    expected |= {"glyphs_sample_grid_nfe1", "glyphs_sample_grid_nfe2", "rings_trajectories_2d"}
    assert stems == expected | {"rings_samples_2d_nfe1", "rings_samples_2d_nfe2"}
    for stem in stems:
        assert {p.suffix for p in drawn if p.stem == stem} == {".png", ".svg", ".csv"}
        with Image.open(results / "figures" / f"{stem}.png") as image:
            assert image.height <= 1200
            assert image.text["Description"]
    assert not [p for p in (results / "figures").rglob("*") if p.is_file() and p not in paths]


def test_figures_are_byte_stable(study, tmp_path):
    results, _, paths, _ = study
    before = {p: p.read_bytes() for p in paths if p.name.startswith("rings_")}
    again = figures.make_all(results, only="rings")
    assert {p: p.read_bytes() for p in again if p.name.startswith("rings_")} == before


def test_figure_csv_holds_the_leaderboards_numbers(study):
    results, _, _, _ = study
    board = pd.read_csv(results / "leaderboard.csv", keep_default_na=False, na_values=[""])
    for dataset in ("glyphs", "rings"):
        numbers = pd.read_csv(results / "figures" / f"{dataset}_quality_vs_nfe.csv")
        rows = board[(board["dataset"] == dataset) & (board["status"] == "ok")]
        both = numbers.merge(rows, on=["entrant", "nfe"], suffixes=("", "_board"))
        assert len(both) == len(numbers) == len(rows)
        for column in ("mean", "low", "high", "n_values"):
            assert (both[column] == both[f"{column}_board"]).all()


def test_models_have_their_own_colours_and_solvers_their_own_marks():
    pairs = [(b, a) for b in "pqrs" for a in ("none", *"abcdef")]
    solvers = [f"solver{i}" for i in range(12)]
    rows = [{"kind": "entrant", "baseline": b, "accelerator": a, "solver": s} for b, a in pairs for s in solvers]
    style = Style.of(pd.DataFrame(rows))
    assert len(set(style.colour.values())) == len(style.colour) == len(pairs)
    assert len({(style.marker[s], style.dash[s]) for s in solvers}) == len(solvers)


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


def test_page_is_self_contained_and_its_links_exist(study):
    results, _, _, page = study
    without_images = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", page)
    assert "http://" not in without_images
    assert "https://" not in without_images
    reader = Reader()
    reader.feed(without_images)
    assert not reader.open
    ids = set(re.findall(r' id="([^"]+)"', page))
    for reference in reader.references:
        if reference.startswith("#"):
            assert reference[1:] in ids
        elif not reference.startswith("data:"):
            assert (results / reference).is_file(), reference
    assert "logs/sample/rings/seed0/arc/euler.log" in reader.references
    assert "figures/entrants/glyphs/seed0/arc/euler.png" in reader.references
    assert page.count("data:image/png;base64,") == 13


def test_every_planned_point_is_on_the_page(study):
    results, _, _, page = study
    reader = Reader()
    reader.feed(page)
    on_page = sorted((r["data-text"].split()[0], int(r["data-nfe"])) for r in reader.rows)
    plan = json.loads((results / "plan.json").read_text())
    assert on_page == sorted((e, n) for _, e, n in {(p["dataset"], p["entrant"], p["nfe"]) for p in plan})


def test_failures_stand_at_the_top_and_text_is_escaped(study):
    page = study[3]
    top = page[: page.index('class="dataset"')]
    assert "glyphs: arc+fold/heun at NFE 1, 2, 5" in top
    assert "no score file" in top
    assert "no answer after &lt;60&gt; s" in top
    assert "<60>" not in page
    assert "needs 2 calls" not in top  # skipped by the rules of a solver is no failure


def test_page_without_figures_or_scores(tmp_path):
    plan = [{"dataset": "d", "entrant": "b/s", "kind": "entrant", "baseline": "b", "accelerator": "none"}]
    (tmp_path / "plan.json").write_text(json.dumps([plan[0] | {"solver": "s", "train_seed": 0, "nfe": 3}]))
    assert figures.make_all(tmp_path) == []
    page = build(tmp_path).read_text()
    assert "d: b/s at NFE 3" in page
    assert "no score file" in page
