"""The Pareto front: points to which no other is at least as good in both cost and value, and better in one."""

import math

import pandas as pd


def front(costs: pd.Series, values: pd.Series) -> pd.Series:
    """Which points (same index, lower is better in both) none dominates; of equal points all or none are on it.

    A point without a cost or a value is never on the front.
    """
    least = values.groupby(costs).min().dropna()  # by cost, the cheapest first
    before = least.cummin().shift(fill_value=math.inf)
    return values == costs.map(least[least < before])
