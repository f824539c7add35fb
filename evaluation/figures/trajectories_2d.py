"""ODE paths from noise to data in the plane, one panel a model, coloured by time."""

from pathlib import Path

import numpy as np
import pandas as pd

from evaluation.figures.paths import draw_paths, recorded, tabulate, time_bar
from evaluation.figures.samples_2d import panel_axes, plane_data, set_limits
from evaluation.figures.style import save

PATHS = 48
STEPS = 32  # segments drawn of a path


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_trajectories_2d`."""
    data = plane_data(dataset, records, results)
    if data is None:
        return []
    rows = board[(board["dataset"] == dataset) & (board["kind"] == "entrant")]
    seed = int(records.loc[records["dataset"] == dataset, "train_seed"].min())
    panels = [(model, *_thin(paths, times)) for model, paths, times in recorded(dataset, rows, seed, results)]
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
        draw_paths(axis, data, paths, times, width=0.8, dot=5, rasterized=True)
        set_limits(axis, data, far)
        axis.set_title(model, fontsize=9)
        cut |= bool(np.abs(paths).max() > 1.5 * far * np.abs(data).max())
        frames.append(tabulate(model, seed, paths, times, ("t", "x", "y")))
    time_bar(figure, axes)
    caption = (
        f"ODE paths on {dataset} from noise to data, training seed {seed}, {panels[0][1].shape[1]} paths from the same "
        "latents, coloured by time; dots are the ends, grey is the data."
    )
    caption += " Paths that start farther out are cut at the frame." if cut else ""
    return save(figure, results, f"{dataset}_trajectories_2d", caption, pd.concat(frames))
