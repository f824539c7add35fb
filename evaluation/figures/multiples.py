"""Small multiples: equal panels in a grid as wide as a page at most, or unequal ones packed into columns."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.style import MAX_WIDTH, new_figure


def grid(n: int, side: float, height: float, most: int = 5, **share) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels `side` by `height` inches, at most `most` beside each other, and their axes."""
    down = math.ceil(n / most)
    across = math.ceil(n / down)
    figure = new_figure(min(MAX_WIDTH, max(4.0, 0.7 + across * side)), 0.5 + down * (height + 0.3))
    axes = list(figure.subplots(down, across, squeeze=False, **share).flat)
    for i, axis in enumerate(axes):
        axis.set_visible(i < n)
        axis.tick_params(labelsize=7.5)
        if i + across >= n:  # nothing below it
            axis.tick_params(labelbottom=True)
    return figure, axes[:n]


def in_order(pairs) -> list[tuple[str, str]]:
    """(baseline, accelerator) pairs, each once: baselines alone first, then those with an accelerator."""
    return sorted(set(pairs), key=lambda pair: (pair[1].replace("none", ""), pair[0]))


def pack(heights: list[float], columns: int) -> tuple[list[tuple[int, float]], float]:
    """(column, distance from the top) of each panel in turn, put where least is yet; and the height of the whole."""
    filled, places = [0.0] * columns, []
    for height in heights:
        column = filled.index(min(filled))
        places.append((column, filled[column]))
        filled[column] += height
    return places, max(filled)
