"""What figures of ODE paths share: reading the recorded paths, drawing them by time, and tabulating them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from evaluation.figures import tensors
from evaluation.figures.multiples import in_order
from evaluation.figures.style import INK
from evaluation.records import model_name

# From noise to data; without the brightest part of viridis, which is hard to see on white.
COLOURS = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)), "time")


def recorded(
    dataset: str, rows: pd.DataFrame, seed: int, results: Path
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(model, paths [T, B, ...], times [T]) of every model among the rows whose paths were kept and are finite."""
    for baseline, accelerator in in_order(rows[["baseline", "accelerator"]].itertuples(index=False, name=None)):
        model = model_name(baseline, accelerator)
        path = results / "reference" / dataset / f"seed{seed}" / f"{model}.safetensors"
        paths, times = tensors.read(path, "trajectory"), tensors.read(path, "trajectory_times")
        if paths is not None and times is not None and np.isfinite(paths).all():
            yield model, paths, times


def draw_paths(
    axis: Axes, data: np.ndarray, paths: np.ndarray, times: np.ndarray, width: float, dot: float, rasterized: bool
) -> None:
    """Paths [T, B, 2] over the data [n, 2] in grey, coloured by time; dots at their ends."""
    axis.scatter(*data.T, s=2, color="#dddddd", linewidths=0, rasterized=True)
    segments = np.stack([paths[:-1], paths[1:]], axis=2).reshape(-1, 2, 2)
    share = np.repeat((times[:-1] + times[1:]) / 2 / times.max(), paths.shape[1])
    lines = LineCollection(segments, array=share, cmap=COLOURS, linewidths=width, rasterized=rasterized)
    lines.set_clim(0, 1)
    axis.add_collection(lines)
    axis.scatter(*paths[-1].T, s=dot, color=INK, linewidths=0, zorder=3)


def tabulate(
    model: str, seed: int, paths: np.ndarray, times: np.ndarray, columns: tuple[str, str, str]
) -> pd.DataFrame:
    """One row a path and time, from noise to data; `columns` name the time and the two coordinates."""
    n_times, n_paths, _ = paths.shape
    index = np.meshgrid(np.arange(n_times), np.arange(n_paths), indexing="ij")[1].ravel()
    frame = pd.DataFrame({"model": model, "train_seed": seed, "path": index, columns[0]: np.repeat(times, n_paths)})
    frame[list(columns[1:])] = paths.reshape(-1, 2)
    return frame.sort_values(["path", columns[0]], ascending=[True, False], kind="stable")


def time_bar(figure: Figure, axes: list[Axes]) -> Colorbar:
    """The legend of the colours."""
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, shrink=0.7, aspect=30, pad=0.01)
    bar.set_label("noise (1) to data (0)")
    return bar
