"""The Pareto front against its definition, and the total cost against sums by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest

from evaluation.figures.pareto import front
from evaluation.figures.quality_vs_total_cost import with_total
from fewstep import registry

NAN = float("nan")


def dominated(points: list[tuple[float, float]], i: int) -> bool:
    return any(a <= points[i][0] and b <= points[i][1] and (a, b) != points[i] for a, b in points)


@pytest.mark.parametrize("seed", range(30))
def test_front_is_what_no_other_point_dominates(seed):
    rng = np.random.default_rng(seed)
    points = [tuple(map(float, p)) for p in rng.integers(0, 4 + seed, (1 + 2 * seed, 2))]  # with many ties
    frame = pd.DataFrame(points, columns=["cost", "value"])
    found = front(frame["cost"], frame["value"])
    assert list(found) == [not dominated(points, i) for i in range(len(points))]


def test_every_small_set_of_points():
    for points in itertools.product(itertools.product((1.0, 2.0), (1.0, 2.0, 3.0)), repeat=3):
        frame = pd.DataFrame(points, columns=["cost", "value"], index=[7, 3, 9])
        assert list(front(frame["cost"], frame["value"])) == [not dominated(list(points), i) for i in range(3)]


def test_what_is_not_known_is_not_on_the_front():
    costs, values = pd.Series([NAN, 1.0, 2.0, 3.0]), pd.Series([0.0, NAN, 5.0, 6.0])
    assert list(front(costs, values)) == [False, False, True, False]


def test_total_cost_is_all_fitting_beyond_the_baseline_and_the_drawing():
    board = pd.DataFrame(
        [("d", "b", "none", NAN, 1e-3), ("d", "b", "none", 7.0, 1e-3), ("d", "b", "acc", 7.0, 2e-3),
         ("d", "b", "lost", NAN, 2e-3), ("d", "none", "none", NAN, 0.0)],
        columns=["dataset", "baseline", "accelerator", "solver_fit_seconds", "seconds_per_sample"],
    ).assign(solver="rule")  # fmt: skip
    fits = [("d", "b", 0, 1000.0), ("d", "b+acc", 0, 30.0), ("d", "b+acc", 0, 30.0), ("d", "b+acc", 1, 50.0)]
    records = pd.DataFrame(fits, columns=["dataset", "model", "train_seed", "fit_seconds"]).assign(kind="reference")
    total = with_total(board, records, samples=10_000)
    assert list(total["total_seconds"][:3]) == pytest.approx([10, 7 + 10, 40 + 7 + 20])
    assert np.isnan(total["total_seconds"][3])
    assert total["total_seconds"][4] == 0
    assert list(total["accelerator_fit_seconds"][:3]) == [0, 0, 40]
    assert "total_seconds" not in board
    learnt = next(name for name, method in registry.of_kind("solver").items() if method.order == 0)
    unknown = with_total(board.assign(solver=learnt), records)["total_seconds"]
    assert np.isnan(unknown[0]) and not np.isnan(unknown[1]), "what a fit cost isn't known, and it wasn't nothing"
