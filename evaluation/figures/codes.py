"""What a model's discrete codes stand for: training data with each of the most frequent codes, and samples with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures import palette, tensors
from evaluation.figures.multiples import in_order
from evaluation.figures.samples_2d import set_limits
from evaluation.figures.style import INK, MUTED, new_figure, save
from evaluation.records import model_name

SIDE, GAP = 0.4, 0.07  # inches of an image's side; between images, of a side
PER_LETTER, BESIDE, ABOVE = 0.068, 0.1, 0.3  # inches: of a label's letter, around it, of a title
APART = 0.4  # between training images and samples, of a side
FINE = 64  # pixels of an image's side, at least
PANEL = 3.1  # inches, the width of a panel of points
RARE = "#c4c4c4"  # points of a code that is not among the most frequent
SOLVED = "solutions of the model's ODE by a fourth-order rule"


@dataclass(frozen=True)
class Shown:
    """The tensors of `evaluation.codes.tensors_of`, for figures."""

    codes: np.ndarray
    shares: np.ndarray
    data_shares: np.ndarray
    drawn: np.ndarray
    data: np.ndarray
    data_cell: np.ndarray
    samples: np.ndarray
    samples_cell: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Shown | None:
        """None where the file is missing or its model has no discrete codes."""
        names = [f"code{name}" for name in ("s", "_shares", "_data_shares", "s_drawn")]
        names += ["code_data", "code_data_cell", "code_samples", "code_samples_cell"]
        found = [tensors.read(path, name) for name in names]
        if any(part is None for part in found):
            return None
        return cls(*found)

    @property
    def labels(self) -> list[str]:
        """E.g. "010110, 3.1 %": the code and the share with which sampling draws it."""
        return [f"{code}, {100 * share:.1f} %" for code, share in zip(texts(self.codes), self.shares, strict=True)]


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_codes_<model>` for every model whose reference has codes."""
    fits = records[(records["dataset"] == dataset) & (records["kind"] == "reference")]
    paths: list[Path] = []
    for baseline, accelerator in in_order(fits[["baseline", "accelerator"]].itertuples(index=False, name=None)):
        model, seed = model_name(baseline, accelerator), int(fits["train_seed"].min())
        shown = Shown.read(results / "reference" / dataset / f"seed{seed}" / f"{model}.safetensors")
        if shown is not None:
            figure, told = _images(shown) if shown.data.ndim == 4 else _plane(shown)
            caption = (
                f"Codes of {model} on {dataset}, training seed {seed}: the {len(shown.codes)} that sampling draws most "
                f"often (their shares, {100 * shown.shares.sum():.0f} % together, are of {shown.drawn[-1]} draws, "
                f"among which were {shown.drawn[0]} different codes). "
            )
            paths += save(figure, results, f"{dataset}_codes_{model}", caption + told, _numbers(shown, model, seed))
    return paths


def texts(codes: np.ndarray) -> list[str]:
    """Codes [K, d] as their digits, without spaces where each digit has one character: "010110"."""
    digits = [[f"{digit:g}" for digit in code] for code in codes]
    between = " " if any(len(digit) > 1 for code in digits for digit in code) else ""
    return [between.join(code) for code in digits]


def _numbers(shown: Shown, model: str, seed: int) -> pd.DataFrame:
    codes = [" ".join(f"{digit:g}" for digit in code) for code in shown.codes]  # a reader would take 0011 for 11
    columns = {"model": model, "train_seed": seed, "code": codes}
    return pd.DataFrame(columns | {"share_drawn": shown.shares, "share_of_data": shown.data_shares})


def _images(shown: Shown) -> tuple[Figure, str]:
    """A row a code: training images that have it, then samples with it, from the same latents in every row."""
    n = len(shown.codes)
    known = _canvas(shown.data, shown.data_cell, n)
    made = _canvas(shown.samples, shown.samples_cell, n)
    row = len(made) / n  # pixels of an image with the gap below it
    apart = np.full((len(made), round(APART * row), 3), 255, np.uint8)
    canvas = np.hstack([known, apart, made])
    labels = [f"code {label}" for label in shown.labels]
    beside, inches = PER_LETTER * max(map(len, labels)) + BESIDE, SIDE * (1 + GAP) / row
    high, wide = len(canvas) * inches, canvas.shape[1] * inches
    figure = new_figure(beside + wide, high + ABOVE)
    figure.set_layout_engine("none")  # everything here has its place in inches
    axis = figure.add_axes((beside / (beside + wide), 0, wide / (beside + wide), high / (high + ABOVE)))
    axis.imshow(canvas, interpolation="nearest", extent=(0, canvas.shape[1], len(canvas), 0))
    axis.set_xticks([])
    axis.set_yticks([(i + 0.45) * row for i in range(n)], labels, fontsize=8)
    axis.tick_params(axis="y", length=0, pad=3)
    axis.spines[:].set_visible(False)
    middles = {
        known.shape[1] / 2: "training images",
        canvas.shape[1] - made.shape[1] / 2: "samples, one latent a column",
    }
    for x, title in middles.items():
        axis.text(x, -0.12 * row, title, fontsize=9, fontweight="bold", color=INK, ha="center", va="bottom")
    for i in set(range(n)) - set(shown.data_cell.tolist()):
        axis.text(0.05 * row, (i + 0.45) * row, "none was found", fontsize=8, color=MUTED, va="center")
    told = (
        f"Left: training images to which the encoder gives the code. Right: samples with the code, {SOLVED}; every row "
        "begins at the same latents, so that a column shows what the code alone changes."
    )
    return figure, told


def _canvas(images: np.ndarray, cell: np.ndarray, n: int) -> np.ndarray:
    """A row of images for each of n codes, white where one has fewer than others: RGB, a gap after each image."""
    across = np.bincount(cell, minlength=n).max()
    rgb = tensors.to_rgb(images)
    factor = math.ceil(FINE / rgb.shape[1])
    rgb = rgb.repeat(factor, axis=1).repeat(factor, axis=2)
    side = rgb.shape[1]
    step = side + max(1, round(GAP * side))
    canvas = np.full((n * step, across * step, 3), 255, np.uint8)
    for i in range(n):
        for j, image in enumerate(rgb[cell == i]):
            canvas[i * step : i * step + side, j * step : j * step + side] = image
    return canvas


def _plane(shown: Shown) -> tuple[Figure, str]:
    """Training points coloured by code beside samples coloured by the code that they were drawn with."""
    figure = new_figure(2 * PANEL + 1.6, PANEL)
    colours = [palette.HUES[k % len(palette.HUES)] for k in range(len(shown.codes))]
    titles = ("training data", "samples")
    parts = ((shown.data, shown.data_cell), (shown.samples, shown.samples_cell))
    for axis, title, (points, cell) in zip(figure.subplots(1, 2), titles, parts, strict=True):
        for k in range(-1, len(colours)):
            colour = RARE if k < 0 else colours[k]
            axis.scatter(*points[cell == k].T, s=7, color=colour, linewidths=0, alpha=0.85, rasterized=True)
        set_limits(axis, shown.data, 1.35)
        axis.set_axis_off()
        axis.set_title(title, fontsize=9)
    figure.set_figheight(0.3 + PANEL * axis.get_ylim()[1] / axis.get_xlim()[1])
    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=5, color=colour, label=label)
        for colour, label in zip([*colours, RARE], [*shown.labels, "all others"], strict=True)
    ]
    rare = shown.drawn[0] > len(colours) or min(shown.data_cell.min(), shown.samples_cell.min()) < 0
    legend = figure.legend(handles=handles if rare else handles[:-1], loc="outside right center", frameon=False)
    legend.set_title("code, share drawn", {"size": 8})
    told = (
        "Left: training points, coloured by the code that the encoder gives them. Right: samples, coloured by the code "
        f"that they were drawn with, {SOLVED}."
    )
    return figure, told
