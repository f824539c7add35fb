"""Samples of a 2-D dataset over its data, one panel a model, each with the solver that does best there."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from evaluation.figures import palette, tensors
from evaluation.figures.style import INK, MUTED, new_figure, save
from evaluation.leaderboard import human
from evaluation.records import entrant_file, model_name

POINTS = 600
PER_ROW = 4


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_samples_2d_nfe<n>` at the smallest and at the middle NFE of a dataset of points in the plane."""
    data = plane_data(dataset, records, results)
    if data is None:
        return []
    rows = board[(board["dataset"] == dataset) & (board["kind"] == "entrant")]
    nfes = sorted(rows["nfe"].unique())
    seed = int(records.loc[records["dataset"] == dataset, "train_seed"].min())
    paths = []
    for nfe in dict.fromkeys((int(nfes[0]), int(nfes[(len(nfes) - 1) // 2]))) if nfes else ():
        paths += _figure(dataset, rows[(rows["nfe"] == nfe) & (rows["status"] == "ok")], nfe, seed, data, results)
    return paths


def plane_data(dataset: str, records: pd.DataFrame, results: Path) -> np.ndarray | None:
    """The data of a dataset of points in the plane, thinned; None for any other dataset."""
    if set(records.loc[(records["dataset"] == dataset) & (records["kind"] != "reference"), "family"]) != {"vector"}:
        return None
    x = tensors.read(results / "data" / f"{dataset}.safetensors", "x", 2000)
    return x if x is not None and x.ndim == 2 and x.shape[1] == 2 else None


def panel_axes(n: int, data: np.ndarray, height: float):
    """A figure of n panels of the data's shape, PER_ROW in a row, `height` inches for a title; and its axes."""
    n_rows = math.ceil(n / PER_ROW)
    n_columns = math.ceil(n / n_rows)
    reach = _reach(data)
    side = min(2.5, (7.3 / n_rows - height) * reach[0] / reach[1])
    figure = new_figure(0.3 + n_columns * side, 0.3 + n_rows * (side * reach[1] / reach[0] + height))
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def set_limits(axis: Axes, data: np.ndarray, margin: float) -> None:
    """A frame around the data, `margin` times as far to each side as the farthest point."""
    x, y = _reach(data) * margin
    axis.set(xlim=(-x, x), ylim=(-y, y), aspect="equal")


def _reach(data: np.ndarray) -> np.ndarray:
    """How far the data extends from 0 along each axis [2]; not less than half as far along one as along the other."""
    reach = np.abs(data).max(axis=0)
    return np.maximum(reach, reach.max() / 2)


def _figure(dataset, rows: pd.DataFrame, nfe: int, seed: int, data, results: Path) -> list[Path]:
    best = rows.sort_values(["mean", "entrant"]).groupby(["baseline", "accelerator"], sort=True).head(1)
    best = best.sort_values(["accelerator", "baseline"], key=lambda c: c.replace("none", ""))
    panels = []
    for row in best.to_dict("records"):
        path = entrant_file(results, "samples", row | {"train_seed": seed}, ".safetensors")
        points = tensors.read(path, f"nfe{nfe}", POINTS)
        if points is not None:
            panels.append((row, points))
    if not panels:
        return []
    figure, axes = panel_axes(len(panels), data, height=0.42)
    frames = []
    for axis, (row, points) in zip(axes, panels, strict=False):
        model = model_name(row["baseline"], row["accelerator"])
        axis.scatter(*data.T, s=3, color="#d4d4d4", linewidths=0, rasterized=True)
        colour = palette.of_model(model) if "+" in model else INK  # a baseline's shade of grey is too near the data's
        axis.scatter(*points.T, s=3, color=colour, linewidths=0, alpha=0.8, rasterized=True)
        set_limits(axis, data, 1.35)
        axis.set_title(f"{model}", fontsize=9, pad=12)
        subtitle = f"{row['solver']}, {row['metric']} {human(row['mean'])}"
        axis.text(0.5, 1.02, subtitle, transform=axis.transAxes, ha="center", fontsize=7.5, color=MUTED)
        frame = pd.DataFrame(points, columns=["x", "y"]).assign(entrant=row["entrant"], nfe=nfe, train_seed=seed)
        frames.append(frame[["entrant", "nfe", "train_seed", "x", "y"]])
    caption = (
        f"Samples of {dataset} at NFE {nfe} over the data (grey), training seed {seed}, {len(panels[0][1])} samples "
        "from the same latents; of each model the solver with the lowest mean at this NFE."
    )
    return save(figure, results, f"{dataset}_samples_2d_nfe{nfe}", caption, pd.concat(frames))
