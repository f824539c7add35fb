"""Mean, spread and 95 % intervals over training seeds and seed blocks."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
Blocks = dict[tuple[int, int], float]  # (train_seed, block) -> value


@dataclass(frozen=True)
class Summary:
    """What is known of one number; the units are those of the values.

    `sd` is the sample standard deviation (n - 1) of the units that the interval is over: the per-seed means with two
    training seeds or more, else the blocks. It, `low` and `high` are nan where there is a single unit.
    """

    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    count: int = 0  # values, all seeds and blocks together
    seeds: int = 0  # training seeds with a value
    interval_over: str = "none"  # train_seeds, blocks or none


@lru_cache(maxsize=256)
def t_quantile(df: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t with `df` degrees of freedom."""
    return float(stats.t.ppf(0.5 + level / 2, df))


def t_interval(units: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """(low, high) of the t-interval of the mean of independent units; nan for fewer than two."""
    n = len(units)
    if n < 2:
        return math.nan, math.nan
    mean = float(np.mean(units))
    half = t_quantile(n - 1, level) * float(np.std(units, ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def blocks_of(values: pd.DataFrame | Blocks) -> Blocks:
    """The seed blocks of a metric (block >= 0); where there are none, the values over everything (block -1).

    A frame has the columns train_seed, block and value; keys come sorted, so that no sum depends on the order of rows.
    """
    if isinstance(values, pd.DataFrame):
        keys = zip(values["train_seed"].astype(int), values["block"].astype(int), strict=True)
        values = dict(zip(keys, values["value"].astype(float), strict=True))
    kept = {key: value for key, value in values.items() if key[1] >= 0} or values
    return dict(sorted(kept.items()))


def summarise(values: pd.DataFrame | Blocks) -> Summary:
    """Summary of the values of one metric.

    Blocks of one trained model share its training, so they tell nothing of another training: with at least two training
    seeds the units are the seeds' means, and only with one seed are they its blocks.
    """
    blocks = blocks_of(values)
    if not blocks:
        return Summary()
    by_seed: dict[int, list[float]] = {}
    for (seed, _), value in blocks.items():
        by_seed.setdefault(seed, []).append(value)
    several = len(by_seed) >= 2
    units = np.array([np.mean(of_seed) for of_seed in by_seed.values()] if several else list(blocks.values()))
    over = "none" if len(units) < 2 else "train_seeds" if several else "blocks"
    sd = float(np.std(units, ddof=1)) if len(units) >= 2 else math.nan
    low, high = t_interval(units)
    return Summary(float(np.mean(units)), sd, low, high, len(blocks), len(by_seed), over)


def paired_difference(a: pd.DataFrame | Blocks, b: pd.DataFrame | Blocks) -> Summary:
    """Summary of `a - b` over the (train_seed, block) pairs that both hold; `count` is the number of pairs."""
    a, b = blocks_of(a), blocks_of(b)
    return summarise({key: a[key] - b[key] for key in a if key in b})


def summarise_measurement(values: pd.DataFrame) -> Summary:
    """Summary of a measurement that brings its own standard error (columns train_seed, block, value, stderr).

    With one training seed the interval is the normal one of that standard error, over the samples ("samples").
    """
    summary = summarise(values)
    if summary.interval_over != "none" or not len(values) or not np.isfinite(values["stderr"].iloc[0]):
        return summary
    half = float(stats.norm.ppf(0.5 + LEVEL / 2) * values["stderr"].iloc[0])
    mean = summary.mean
    return Summary(mean, math.nan, mean - half, mean + half, summary.count, summary.seeds, "samples")
