"""Mean, spread and 95 % intervals over training seeds and seed blocks."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


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


def blocks_of(values: pd.DataFrame) -> pd.DataFrame:
    """The seed blocks of a metric (block >= 0); where there are none, the value over everything (block -1)."""
    blocks = values[values["block"] >= 0]
    return blocks if len(blocks) else values


def summarise(values: pd.DataFrame) -> Summary:
    """Summary of a frame with the columns train_seed, block and value.

    Blocks of one trained model share its training, so they tell nothing of another training: with at least two training
    seeds the units are the seeds' means, and only with one seed are they its blocks.
    """
    values = blocks_of(values).sort_values(["train_seed", "block"], kind="stable")
    if not len(values):
        return Summary()
    by_seed = values.groupby("train_seed")["value"].mean().to_numpy(float)
    units = by_seed if len(by_seed) >= 2 else values["value"].to_numpy(float)
    over = "none" if len(units) < 2 else "train_seeds" if len(by_seed) >= 2 else "blocks"
    sd = float(np.std(units, ddof=1)) if len(units) >= 2 else math.nan
    low, high = t_interval(units)
    return Summary(float(np.mean(units)), sd, low, high, len(values), len(by_seed), over)


def paired_difference(a: pd.DataFrame, b: pd.DataFrame) -> Summary:
    """Summary of `a - b` over the (train_seed, block) pairs that both hold; `count` is the number of pairs."""
    keys = ["train_seed", "block"]
    both = blocks_of(a)[[*keys, "value"]].merge(blocks_of(b)[[*keys, "value"]], on=keys, suffixes=("_a", "_b"))
    return summarise(both[keys].assign(value=both["value_a"] - both["value_b"]))


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
