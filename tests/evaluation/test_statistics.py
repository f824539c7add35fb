"""Intervals, jackknife and paired decisions against closed forms and against draws whose truth is known."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from evaluation.metrics.frechet import Moments, frechet_distance
from evaluation.statistics import Values, decided, paired_difference, summarise

PARTS = 10


def left_out(parts, statistic=np.mean):
    """The statistic of all parts but one, for each."""
    return np.array([statistic(np.concatenate(parts[:j] + parts[j + 1 :])) for j in range(len(parts))])


def test_jackknife_of_a_mean_is_the_t_interval_of_the_parts_means():
    x = np.random.default_rng(0).normal(3, 2, 200)
    parts = np.split(x, PARTS)
    summary = summarise(Values.collect([(0, 0, x.mean(), left_out(parts))]))
    means = np.mean(parts, axis=1)
    expected = stats.t.interval(0.95, PARTS - 1, loc=x.mean(), scale=stats.sem(means))
    assert (summary.low, summary.high) == pytest.approx(expected, rel=1e-12)
    assert (summary.interval_over, summary.count, summary.seeds) == ("jackknife", 1, 1)


def test_blocks_are_strata_of_the_jackknife():
    """Two blocks at different levels: the level between them is no error of their mean."""
    rng = np.random.default_rng(1)
    blocks = [rng.normal(level, 1, 100) for level in (0, 50)]
    rows = [(0, b, x.mean(), left_out(np.split(x, PARTS))) for b, x in enumerate(blocks)]
    summary = summarise(Values.collect(rows))
    errors = [stats.sem(np.mean(np.split(x, PARTS), axis=1)) for x in blocks]
    half = stats.t.ppf(0.975, 2 * (PARTS - 1)) * math.hypot(*errors) / 2
    assert summary.mean == pytest.approx(np.mean([x.mean() for x in blocks]))
    assert summary.high - summary.mean == pytest.approx(half, rel=1e-12)


def test_training_seeds_go_before_the_jackknife():
    rows = [(seed, 0, value, np.array([value, value + 1])) for seed, value in ((0, 1.0), (1, 2.0), (2, 6.0))]
    summary = summarise(Values.collect(rows))
    expected = stats.t.interval(0.95, 2, loc=3, scale=stats.sem([1, 2, 6]))
    assert summary.interval_over == "train_seeds"
    assert (summary.low, summary.high) == pytest.approx(expected)


def distances(rng, n, wanted, shared=None):
    """A Fréchet distance of n Gaussian features to `wanted`, with its jackknife; `shared` draws are the latents."""
    z = rng.normal(size=(n, 6)) if shared is None else shared
    x = z * np.sqrt([4, 2, 1, 0.5, 0.2, 0.1]) + 0.3
    whole, parts = Moments(x), np.split(x, PARTS)
    without = [frechet_distance(Moments(np.delete(x, range(j * n // PARTS, (j + 1) * n // PARTS), 0)), wanted)
               for j in range(PARTS)]  # fmt: skip
    assert len(parts) == PARTS
    return frechet_distance(whole, wanted), np.array(without)


def test_jackknife_interval_of_a_frechet_distance_covers_its_expectation():
    """Over 200 draws the 95 % interval holds the mean of all draws in 95 % of them, within the binomial's spread."""
    rng = np.random.default_rng(2)
    wanted = Moments(rng.normal(size=(4000, 6)) * np.sqrt([4, 2, 1, 0.5, 0.2, 0.1]))
    draws = [distances(rng, 300, wanted) for _ in range(200)]
    expectation = np.mean([value for value, _ in draws])
    found = [summarise(Values.collect([(0, 0, *draw)])) for draw in draws]
    covered = np.mean([s.low < expectation < s.high for s in found])
    assert 0.90 <= covered <= 0.99


def frame(rows):
    return pd.DataFrame(rows, columns=["train_seed", "block", "value", "jackknife"])


def entrants(rng, kind, n=6):
    """Values of n entrants that share an effect a block, some of them hardly apart."""
    effect, jitter = rng.normal(size=3) * 5, rng.normal(size=(3, PARTS))
    found = []
    for i in range(n):
        rows = []
        for seed in range(3 if kind == "train_seeds" else 1):
            for block in range(3):
                value = 0.2 * i + effect[block] + rng.normal() * 0.1
                parts = value + jitter[block] + rng.normal(size=PARTS) * 0.03 if kind == "jackknife" else None
                rows.append((seed, block, value, parts))
        found.append(frame(rows))
    return found


@pytest.mark.parametrize("kind", ["blocks", "train_seeds", "jackknife"])
def test_decided_is_every_pairs_paired_interval(kind):
    found = entrants(np.random.default_rng(3), kind)
    matrix = decided([Values.read(rows) for rows in found])
    pairs = {(i, j): paired_difference(found[i], found[j]) for i, j in combinations(range(len(found)), 2)}
    expected = {pair: gap.low > 0 or gap.high < 0 for pair, gap in pairs.items()}
    assert {gap.interval_over for gap in pairs.values()} == {kind}
    assert {pair: bool(matrix[pair]) for pair in pairs} == expected
    assert set(expected.values()) == {True, False}, "the case is too easy"
    assert (matrix == matrix.T).all() and not matrix.diagonal().any()


def test_nothing_is_decided_by_rounding_or_by_a_single_value():
    a, b = (Values.collect([(0, 0, 1.0 + e, None), (0, 1, 2.0 + e, None)]) for e in (0, 1e-9))
    assert decided([a, b]).any() and not decided([a, b], resolution=1e-5).any()
    single = [Values.collect([(0, 0, value, None)]) for value in (1.0, 9.0)]
    assert not decided(single).any()
