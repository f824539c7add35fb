"""Figures on the synthetic results folder of test_leaderboard."""

import pandas as pd
import pytest
from PIL import Image

from evaluation import figures, leaderboard
from tests.evaluation.synthetic import make_results, summarised


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = make_results(tmp_path_factory.mktemp("drawn"))
    tidy = summarised(results)
    paths = figures.make_all(results)
    return results, leaderboard.leaderboard(tidy), paths, None


def test_every_figure_is_png_svg_and_csv_below_1200_px(study):
    results, _, paths, _ = study
    drawn = sorted(p for p in paths if p.parent == results / "figures")
    assert len(drawn) == len(set(drawn))
    stems = {p.stem for p in drawn}
    both = ("quality_vs_nfe", "ranking", "curvature")
    both += ("quality_vs_seconds", "quality_vs_gflop", "quality_vs_total_cost")
    expected = {f"{d}_{kind}" for d in ("glyphs", "rings") for kind in both}
    expected |= {"glyphs_sample_grid_nfe1", "glyphs_sample_grid_nfe2", "glyphs_trajectories_pca"}
    expected |= {"rings_trajectories_2d"}
    assert stems == expected | {"rings_samples_2d_nfe1", "rings_samples_2d_nfe2"}
    for stem in stems:
        assert {p.suffix for p in drawn if p.stem == stem} == {".png", ".svg", ".csv"}
        with Image.open(results / "figures" / f"{stem}.png") as image:
            assert image.height <= 1200
            assert image.text["Description"]
    assert not [p for p in (results / "figures").rglob("*") if p.is_file() and p not in paths]


def test_pictures_of_an_earlier_study_are_removed(study, tmp_path):
    folder, datasets = tmp_path / "figures", ("rings", "rings_small")
    stale = [folder / "rings_ranking.png", folder / "rings_ranking.csv", folder / "entrants/rings/seed0/arc/old.png"]
    fresh = [folder / "rings_curvature.png", folder / "rings_small_ranking.png", folder / "entrants/glyphs/a.png"]
    for file in (*stale, *fresh):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    figures.remove_stale(tmp_path, "rings", fresh[:1], datasets)
    assert [file.exists() for file in (*stale, *fresh)] == [False] * 3 + [True] * 3


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
