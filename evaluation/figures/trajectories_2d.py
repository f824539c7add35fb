"""ODE paths from noise to data in the plane, one panel a model, coloured by time."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap

from evaluation.figures import tensors
from evaluation.figures.samples_2d import panel_axes, plane_data, set_limits
from evaluation.figures.style import save
from evaluation.records import model_name

PATHS = 48
STEPS = 32  # segments drawn of a path
# From noise to data; without the brightest part of viridis, which is hard to see on white.
COLOURS = ListedColormap(colormaps["viridis_r"](np.linspace(0.1, 1, 256)), "time")


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_trajectories_2d`."""
    data = plane_data(dataset, records, results)
    if data is None:
        return []
    rows = board[(board["dataset"] == dataset) & (board["kind"] == "entrant")]
    seed = int(records.loc[records["dataset"] == dataset, "train_seed"].min())
    pairs = rows[["baseline", "accelerator"]].drop_duplicates()
    pairs = pairs.sort_values(["accelerator", "baseline"], key=lambda c: c.replace("none", ""))
    panels = []
    for baseline, accelerator in pairs.itertuples(index=False):
        model = model_name(baseline, accelerator)
        path = results / "reference" / dataset / f"seed{seed}" / f"{model}.safetensors"
        paths, times = tensors.read(path, "trajectory"), tensors.read(path, "trajectory_times")
        if paths is not None and times is not None and np.isfinite(paths).all():
            panels.append((model, *_thin(paths, times)))
    return _figure(dataset, panels, seed, data, results) if panels else []


def _thin(paths: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first PATHS paths at about STEPS times, both ends kept."""
    kept = np.unique(np.linspace(0, len(times) - 1, STEPS + 1).round().astype(int))
    return paths[kept, :PATHS], times[kept]


def _figure(dataset: str, panels: list, seed: int, data: np.ndarray, results: Path) -> list[Path]:
    figure, axes = panel_axes(len(panels), data, height=0.28)
    frames = []
    far = 1.1 * max(1.0, 3.2 / float(np.abs(data).max()))  # three standard deviations of the noise end fit in
    cut = False
    for axis, (model, paths, times) in zip(axes, panels, strict=False):
        n_times, n_paths, _ = paths.shape
        axis.scatter(*data.T, s=2, color="#dddddd", linewidths=0, rasterized=True)
        segments = np.stack([paths[:-1], paths[1:]], axis=2).reshape(-1, 2, 2)
        share = np.repeat((times[:-1] + times[1:]) / 2 / times.max(), n_paths)
        lines = LineCollection(segments, array=share, cmap=COLOURS, linewidths=0.8, rasterized=True)
        lines.set_clim(0, 1)
        axis.add_collection(lines)
        axis.scatter(*paths[-1].T, s=5, color="#222222", linewidths=0, zorder=3)
        set_limits(axis, data, far)
        axis.set_title(model, fontsize=9)
        cut |= bool(np.abs(paths).max() > 1.5 * far * np.abs(data).max())
        grid = np.meshgrid(np.arange(n_times), np.arange(n_paths), indexing="ij")
        flat = paths.reshape(-1, 2)
        frames.append(
            pd.DataFrame({"model": model, "train_seed": seed, "path": grid[1].ravel(), "t": np.repeat(times, n_paths)})
            .assign(x=flat[:, 0], y=flat[:, 1])
            .sort_values(["path", "t"], ascending=[True, False], kind="stable")
        )
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), ax=axes, shrink=0.7, aspect=30, pad=0.01)
    bar.set_label("noise (1) to data (0)")
    caption = (
        f"ODE paths on {dataset} from noise to data, training seed {seed}, {panels[0][1].shape[1]} paths from the same "
        "latents, coloured by time; dots are the ends, grey is the data."
    )
    caption += " Paths that start farther out are cut at the frame." if cut else ""
    return save(figure, results, f"{dataset}_trajectories_2d", caption, pd.concat(frames))
