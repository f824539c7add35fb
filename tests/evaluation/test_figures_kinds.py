"""What figures of costs, paths, schedules and training show, against numbers computed another way; and their print."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation import figures, leaderboard
from evaluation.figures import schedules, training_curves, trajectories_pca
from evaluation.figures.multiples import in_order, pack
from evaluation.figures.style import MAX_HEIGHT, MAX_WIDTH, failures, over_text
from fewstep import registry
from tests.evaluation import crowd
from tests.evaluation.synthetic import collected

LEARNT = sorted(id for id, m in registry.of_kind("solver").items() if m.order == 0 and not m.preset)[:2]
FIXED = ["euler", "heun", "midpoint"]
FOUR = [f"quality_vs_{cost}" for cost in ("nfe", "seconds", "gflop", "total_cost")]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two datasets, three models, solvers that the registry knows; a point in 29 is not ok."""
    models = [("edm", "none"), ("rf", "none"), ("rf", "reflow")]
    plan = [p for d in ("glyphs", "rings") for p in crowd.planned(d, models, [*FIXED, *LEARNT], [1, 3, 5, 10], (0, 1))]
    results = crowd.make_crowd(tmp_path_factory.mktemp("kinds"), plan)
    return results, leaderboard.leaderboard(collected(results)), figures.make_all(results)


def table(results, name: str) -> pd.DataFrame:
    return pd.read_csv(results / "figures" / f"{name}.csv", keep_default_na=False, na_values=[""])


def test_all_kinds_are_drawn(study):
    results, _, paths = study
    kinds = {kind for kind in figures.KINDS if any(f"_{kind}" in p.stem for p in paths)}
    assert kinds == set(figures.KINDS) - {"entrant_grids", "codes", "paces"}  # no model here has codes, or paces
    assert not list((results / "figures").glob("rings_trajectories_pca*"))


def test_figures_can_be_printed(study):
    """On an A4 page, in letters of at least 7 points."""
    _, _, paths = study
    for path in (p for p in paths if p.suffix == ".svg"):
        text = path.read_text()
        sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:[\w-]+ )*([\d.]+)px", text)]
        assert sizes, path.name
        width, height = (float(v) / 72 for v in re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', text).groups())
        low, high = sorted((width, height))
        assert (low, high) <= (MAX_HEIGHT + 0.01, MAX_WIDTH + 0.01), path.name
        assert min(sizes) >= 7, path.name


@pytest.mark.parametrize("kind", FOUR)
def test_front_of_every_panel_is_not_dominated(study, kind):
    results, board, _ = study
    cost = {"nfe": "nfe", "seconds": "seconds_per_sample", "gflop": "gflop_per_sample", "total_cost": "total_seconds"}
    column = cost[kind.removeprefix("quality_vs_")]
    numbers = table(results, f"glyphs_{kind}")
    entrants = numbers[numbers["baseline"] != "none"]
    assert not numbers.loc[numbers["baseline"] == "none", "pareto"].any()
    shown = board[(board["dataset"] == "glyphs") & (board["kind"] == "entrant") & (board["status"] == "ok")]
    if kind == "quality_vs_total_cost":  # here no learnt solver says what its fit cost
        known = registry.of_kind("solver")
        shown = shown[[name not in known or known[name].order != 0 for name in shown["solver"]]]
    assert len(entrants) == len(shown)
    for _, panel in entrants.groupby(["baseline", entrants["accelerator"] != "none"]):
        points = panel[[column, "mean"]].to_numpy()
        if "second" in column:  # measured times differ in two digits
            points[:, 0] = [float(f"{seconds:.2g}") for seconds in points[:, 0]]
        beaten = [bool(((points <= p).all(1) & (points < p).any(1)).any()) for p in points]
        assert list(~panel["pareto"]) == beaten


def test_failures_are_named(study):
    results, board, _ = study
    bad = board[(board["dataset"] == "glyphs") & (board["status"] != "ok")]["entrant"].iloc[0]
    for kind in FOUR:
        with Image.open(results / f"figures/glyphs_{kind}.png") as image:
            assert bad in image.text["Description"]


def test_total_cost_adds_up(study):
    results, _, _ = study
    numbers = table(results, "rings_quality_vs_total_cost")
    fitted = numbers["accelerator"] == "reflow"
    assert fitted.any()
    expected = 50_000 * numbers["seconds_per_sample"] + np.where(fitted, 20.0, 0.0)  # seconds that documents() makes up
    shown = numbers["baseline"] != "none"
    assert list(numbers.loc[shown, "total_seconds"]) == pytest.approx(list(expected[shown]), rel=1e-4)


def test_plane_is_that_of_the_singular_vectors():
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(300, 1, 4, 4)) * np.linspace(3, 0.1, 16).reshape(1, 1, 4, 4)).astype("float32")
    plane = trajectories_pca.Plane(images)
    flat = images.reshape(300, 16) - images.reshape(300, 16).mean(0)
    _, s, v = np.linalg.svd(flat, full_matrices=False)
    assert plane.shares == pytest.approx(s[:2] ** 2 / (s**2).sum(), rel=1e-4)
    assert np.abs(plane.project(images[None])[0]) == pytest.approx(np.abs(flat @ v[:2].T), abs=1e-3)


def test_bytes_and_floats_span_the_same_plane():
    images = np.random.default_rng(1).integers(0, 256, (50, 1, 4, 4)).astype("uint8")
    floats = (images / 127.5 - 1).astype("float32")
    assert trajectories_pca.Plane(images).data == pytest.approx(trajectories_pca.Plane(floats).data, abs=1e-4)


def test_paths_in_the_plane_end_on_the_data(study):
    results, _, _ = study
    paths = table(results, "glyphs_trajectories_pca")
    assert set(paths["model"]) == {"edm", "rf", "rf+reflow"}
    data = trajectories_pca.tensors.read(results / "data/glyphs.safetensors", "x")
    ends = trajectories_pca.Plane(data).data[:16]  # the made-up paths lead to the first images
    last = paths[(paths["model"] == "rf") & (paths["u"] == 0)].sort_values("path")
    assert last[["pc1", "pc2"]].to_numpy() == pytest.approx(ends, abs=1e-3)


def test_training_curves_hold_what_was_recorded(study):
    results, _, _ = study
    numbers = table(results, "glyphs_training_curves")
    document = json.loads((results / "reference/glyphs/seed1/rf+reflow.json").read_text())
    rows = numbers[(numbers["model"] == "rf+reflow") & (numbers["train_seed"] == 1)]
    recorded = np.array(document["fit"]["curves"]["train"])
    assert rows[["step", "loss"]].to_numpy() == pytest.approx(recorded, rel=1e-5)
    window = recorded[10:17, 1]
    assert rows["smoothed"].iloc[13] == pytest.approx(window.mean(), rel=1e-5)


def test_smoothing_keeps_a_line_and_lowers_noise():
    line = pd.Series(np.arange(20.0))
    assert list(training_curves.smooth(line)[3:17]) == list(line[3:17])
    noise = pd.Series(np.random.default_rng(0).normal(size=700))
    assert training_curves.smooth(noise)[3:-3].std() == pytest.approx(noise.std() / math.sqrt(7), rel=0.2)


def test_schedules_are_those_recorded_and_the_learnt_ones_stand_out(study):
    results, _, _ = study
    numbers = table(results, "rings_schedules")
    assert set(numbers["nfe"]) == {5, 10}
    assert set(numbers.loc[numbers["own"], "solver"]) <= set(LEARNT)
    assert set(numbers["baseline"]) == set(numbers.loc[numbers["own"], "baseline"]) == {"edm", "rf"}
    for (solver, nfe), line in numbers[numbers["baseline"] == "edm"].groupby(["solver", "nfe"]):
        assert list(line["u"]) == pytest.approx(crowd.levels(solver, nfe), rel=1e-5)


def lines(entrants: dict[str, tuple[float, list[float]]]) -> pd.DataFrame:
    rows = []
    for entrant, (order, u) in entrants.items():
        model, _, solver = entrant.partition("/")
        baseline, _, accelerator = model.partition("+")
        head = {"entrant": entrant, "baseline": baseline, "accelerator": accelerator or "none", "solver": solver}
        rows += [head | {"nfe": 2, "order": order, "call": i, "u": level} for i, level in enumerate(u, 1)]
    return pd.DataFrame(rows)


def test_own_is_what_no_fixed_rule_of_the_baseline_shares():
    made = lines({
        "b/plain": (1, [0.9, 0.5]), "b/other": (2, [0.9, 0.3]), "b/learnt": (0, [0.9, 0.4]),
        "b/unmoved": (0, [0.9, 0.5001]), "b+acc/plain": (1, [0.8, 0.5]), "b+idle/plain": (1, [0.9, 0.3]),
        "c/learnt": (0, [0.9, 0.5]),
    })  # fmt: skip
    found = schedules.own(made)
    assert set(found.loc[found["own"], "entrant"]) == {"b/learnt", "b+acc/plain", "c/learnt"}


def test_levels_of_pure_noise_and_data_can_be_drawn():
    assert list(schedules.ratio(np.array([1.0, 0.5, 0.0]))) == [schedules.REACH[1], 1, schedules.REACH[0]]
    assert not schedules.same(np.array([1.0, 0.5]), np.array([1.0, 0.5, 0.1]))


def test_packing_fills_the_emptiest_column():
    assert pack([3, 1, 1, 2], 2) == ([(0, 0), (1, 0), (1, 1), (1, 2)], 4)
    assert pack([1, 2], 1) == ([(0, 0), (0, 1)], 3)


def test_models_stand_in_order_of_what_is_fitted_on_them():
    pairs = [("b", "x"), ("b", "none"), ("a", "x"), ("a", "none"), ("a", "none")]
    assert in_order(pairs) == [("a", "none"), ("b", "none"), ("a", "x"), ("b", "x")]


def test_no_network_means_no_gflop_and_no_total_cost(study):
    results, board, _ = study
    exact = board.assign(gflop_per_sample=0.0)
    for kind in ("quality_vs_gflop", "quality_vs_total_cost"):
        assert figures.KINDS[kind].draw("rings", exact, collected(results), results) == []


def test_captions_say_what_intervals_are_over():
    over = pd.Series(["none", "train_seeds", "jackknife", "train_seeds"])
    assert over_text(over) == "parts left out in turn (jackknife) and training seeds"
    assert over_text(pd.Series(["none"])) == ""


def test_the_note_on_failures_keeps_the_names():
    rows = pd.DataFrame({"entrant": ["b/a_b", "b/c"], "nfe": [3, 4], "status": ["out_of_memory", "skipped"]})
    assert failures(rows) == "Not shown: b/a_b at NFE 3 (out of memory)."
