"""Mean, spread and 95 % intervals over training seeds, seed blocks, or parts of blocks left out in turn."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats
from scipy.spatial.distance import cdist

LEVEL = 0.95
Key = tuple[int, int]  # (train_seed, block)


@dataclass(frozen=True)
class Values:
    """One metric of one point: a value a training seed and block, and what the block gives without one of its J parts.

    The latents of a block, and so its parts, are the same for every entrant.
    """

    of: dict[Key, float] = field(default_factory=dict)
    left_out: dict[Key, np.ndarray] = field(default_factory=dict)  # [J] each; empty where it was not computed

    @classmethod
    def read(cls, frame: pd.DataFrame) -> "Values":
        """From rows with train_seed, block and value, and jackknife where known.

        The seed blocks (block >= 0); where there are none, the values over everything (block -1). Keys come sorted, so
        that no sum depends on the order of rows.
        """
        frame = frame[frame["value"].notna()]
        left_out = frame["jackknife"] if "jackknife" in frame else [None] * len(frame)
        rows = zip(frame["train_seed"], frame["block"], frame["value"], left_out, strict=True)
        return cls.collect(rows)

    @classmethod
    def collect(cls, rows: Iterable[tuple[int, int, float, object]]) -> "Values":
        """From (train_seed, block, value, jackknife) in any order."""
        found = {(int(seed), int(block)): (float(value), parts) for seed, block, value, parts in rows}
        kept = {key: found[key] for key in sorted(found) if key[1] >= 0} or dict(sorted(found.items()))
        parts = {key: np.asarray(p, dtype=np.float64) for key, (_, p) in kept.items() if p is not None and len(p)}
        return cls({key: value for key, (value, _) in kept.items()}, parts)

    def at(self, keys: Iterable[Key]) -> "Values":
        """The part with these keys."""
        keys = list(keys)
        return Values({k: self.of[k] for k in keys}, {k: self.left_out[k] for k in keys if k in self.left_out})


@dataclass(frozen=True)
class Evidence:
    """A mean and what is known of its error.

    The standard error is the Euclidean norm of `errors`; `errors` is linear in the values, so that of a difference of
    two entrants on the same latents is the difference of theirs.
    """

    mean: float
    errors: np.ndarray
    df: int  # degrees of freedom of the standard error; 0: nothing is known of it
    over: str  # train_seeds, blocks, jackknife or none

    @property
    def half(self) -> float:
        """Half the 95 % t-interval; nan where nothing is known of the error."""
        return t_quantile(self.df) * float(np.linalg.norm(self.errors)) if self.df else math.nan


@dataclass(frozen=True)
class Summary:
    """What is known of one number; the units are those of the values.

    `sd` is the sample standard deviation (n - 1) of the seeds' means with two training seeds or more, else of the
    blocks; nan where there is a single one. `low` and `high` are nan where nothing is known of the error.
    """

    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    count: int = 0  # values, all seeds and blocks together
    seeds: int = 0  # training seeds with a value
    interval_over: str = "none"  # train_seeds, blocks, jackknife or none


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


def evidence(values: Values) -> Evidence:
    """The mean of a metric's values, with its error.

    Blocks of one trained model share its training, so they tell nothing of another training: with at least two training
    seeds the units are the seeds' means. With one seed they are the parts of its blocks, left out in turn (block
    jackknife: Efron & Stein 1981; a bootstrap would double the bias of a Fréchet distance), or else its blocks.
    """
    seeds = _seed_means(values)
    if len(seeds) >= 2:
        return Evidence(float(np.mean(seeds)), _errors(seeds), len(seeds) - 1, "train_seeds")
    blocks = np.array(list(values.of.values()))
    mean = float(np.mean(blocks)) if len(blocks) else math.nan
    if len(blocks) and values.of.keys() == values.left_out.keys():
        parts = [_jackknife_errors(left_out) / len(blocks) for left_out in values.left_out.values()]
        return Evidence(mean, np.concatenate(parts), sum(len(part) - 1 for part in parts), "jackknife")
    if len(blocks) >= 2:
        return Evidence(mean, _errors(blocks), len(blocks) - 1, "blocks")
    return Evidence(mean, np.empty(0), 0, "none")


def _seed_means(values: Values) -> np.ndarray:
    by_seed: dict[int, list[float]] = {}
    for (seed, _), value in values.of.items():
        by_seed.setdefault(seed, []).append(value)
    return np.array([np.mean(of_seed) for of_seed in by_seed.values()])


def _errors(units: np.ndarray) -> np.ndarray:
    """Deviations, scaled so that their norm is the standard error of the units' mean."""
    n = len(units)
    return (units - units.mean()) / math.sqrt(n * (n - 1))


def _jackknife_errors(left_out: np.ndarray) -> np.ndarray:
    """The same from the J values without one part each: se^2 = (J - 1)/J sum_j (v_j - mean)^2."""
    j = len(left_out)
    return (left_out - left_out.mean()) * math.sqrt((j - 1) / j)


def summarise(values: Values | pd.DataFrame) -> Summary:
    """Summary of the values of one metric: of a point's `Values`, or of rows that `Values.read` takes."""
    values = values if isinstance(values, Values) else Values.read(values)
    if not values.of:
        return Summary()
    known, seeds = evidence(values), _seed_means(values)
    units = seeds if len(seeds) >= 2 else np.array(list(values.of.values()))
    sd = float(np.std(units, ddof=1)) if len(units) >= 2 else math.nan
    low, high = known.mean - known.half, known.mean + known.half
    return Summary(known.mean, sd, low, high, len(values.of), len(seeds), known.over)


def paired_difference(a: Values | pd.DataFrame, b: Values | pd.DataFrame) -> Summary:
    """Summary of `a - b` over the (train_seed, block) pairs that both hold; `count` is the number of pairs."""
    a, b = (v if isinstance(v, Values) else Values.read(v) for v in (a, b))
    shared = [key for key in a.of if key in b.of]
    left_out = {
        k: a.left_out[k] - b.left_out[k]
        for k in shared
        if k in a.left_out and k in b.left_out and len(a.left_out[k]) == len(b.left_out[k])
    }
    return summarise(Values({k: a.of[k] - b.of[k] for k in shared}, left_out))


def decided(values: list[Values], resolution: float = 0.0) -> np.ndarray:
    """Which entrants differ: [E, E], whether the 95 % interval of the paired difference of i and j excludes 0.

    All pairs at once, over the keys that all hold: the error of a difference is the difference of errors. Differences
    below `resolution` times the value are rounding. No correction is made for the number of pairs.
    """
    shared = [key for key in values[0].of if all(key in v.of for v in values)] if values else []
    found = [evidence(v.at(shared)) for v in values]
    if len({(e.over, len(e.errors)) for e in found}) != 1 or not found[0].df:
        return np.zeros((len(values), len(values)), dtype=bool)
    means, errors = np.array([e.mean for e in found]), np.stack([e.errors for e in found])
    gap = np.abs(means[:, None] - means)
    rounding = resolution * np.maximum(np.abs(means[:, None]), np.abs(means))
    return (gap > t_quantile(found[0].df) * cdist(errors, errors)) & (gap > rounding)


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
