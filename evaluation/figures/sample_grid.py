"""Samples from the same latents: one row an entrant, a block of rows a baseline, of many solvers the best."""

import math
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures import tensors
from evaluation.figures.emphasis import MOST, best_first, reference
from evaluation.figures.multiples import pack
from evaluation.figures.style import MAX_HEIGHT, MAX_WIDTH, new_figure, save
from evaluation.leaderboard import human
from evaluation.records import entrant_file

COLUMNS = 12  # latents shown
MOST_ROWS = 26  # of a block before it continues beside itself
LARGEST, SMALLEST = 0.34, 0.1  # inches, of an image's side
PER_LETTER, BESIDE, ABOVE = 0.066, 0.12, 0.3  # inches: of a label's letter, between blocks, of a block's title
GAP = 0.08  # between images, of an image's side


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_sample_grid_nfe<n>` at the smallest and at the middle NFE of an image dataset."""
    rows = board[(board["dataset"] == dataset) & (board["kind"] == "entrant")]
    points = records[(records["dataset"] == dataset) & (records["kind"] != "reference")]
    if not len(rows) or set(points["family"]) != {"image"}:
        return []
    nfes = sorted(rows["nfe"].unique())
    seed = int(points["train_seed"].min())
    paths = []
    for nfe in dict.fromkeys((int(nfes[0]), int(nfes[(len(nfes) - 1) // 2]))):
        paths += _grid(dataset, rows[rows["nfe"] == nfe], nfe, seed, results)
    return paths


def _grid(dataset: str, rows: pd.DataFrame, nfe: int, seed: int, results: Path) -> list[Path]:
    blocks, numbers = [], []
    for baseline, group in rows.groupby("baseline", sort=True):
        group = chosen(group)
        strips = _strips(dataset, baseline, group, nfe, seed, results)
        parts = math.ceil(len(strips) / MOST_ROWS)
        size = math.ceil(len(strips) / parts)
        blocks += [(baseline, strips[i : i + size]) for i in range(0, len(strips), size)]
        shown = group[["entrant", "solver", "nfe", "status", "metric", "mean"]]
        numbers.append(shown.assign(train_seed=seed, n_images=COLUMNS))
    label = PER_LETTER * max(len(name) for _, strips in blocks for name, _ in strips) + BESIDE
    figure = _figure(blocks, label)
    caption = (
        f"Samples of {dataset} at NFE {nfe}, training seed {seed}: {COLUMNS} latents, the same in every row; the first "
        f"row of a baseline is its converged ODE solution. Numbers are the mean {rows['metric'].iloc[0]}, best first."
    )
    if sum(map(len, numbers)) < len(rows):
        plain = reference(sorted(set(rows["solver"])))
        caption += f" Of a model's many solvers the best at this NFE are shown, one of those that tie, and {plain}."
    return save(figure, results, f"{dataset}_sample_grid_nfe{nfe}", caption, pd.concat(numbers))


def _figure(blocks: list[tuple[str, list]], label: float) -> Figure:
    """The blocks packed into as many columns as make the images largest on a page; `label` inches for their names."""
    rows = [len(strips) for _, strips in blocks]

    def side(across: int) -> float:
        wide = ((MAX_WIDTH - 0.1) / across - label) / COLUMNS
        column, _ = pack(rows, across)
        deepest = max(sum(c == k for c, _ in column) for k in range(across))  # blocks, each with a title
        high = (MAX_HEIGHT - deepest * ABOVE) / pack(rows, across)[1]
        return min(LARGEST, wide / (1 + GAP), high / (1 + GAP))

    across = max(range(1, len(blocks) + 1), key=side)
    step = max(side(across), SMALLEST) * (1 + GAP)
    places, height = pack([ABOVE + n * step for n in rows], across)
    width = label + COLUMNS * step
    figure = new_figure(across * width + 0.1, height, tallest=height)
    figure.set_layout_engine("none")  # everything here has its place in inches
    wide, high = figure.get_size_inches()
    for (column, top), n, (baseline, strips) in zip(places, rows, blocks, strict=True):
        left, bottom = column * width + label, high - top - ABOVE - n * step
        axis = figure.add_axes((left / wide, bottom / high, COLUMNS * step / wide, n * step / high))
        _block(axis, baseline, strips)
    return figure


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a baseline to show, those without an accelerator first; its models share a block's room."""
    models = sorted(rows.groupby("accelerator"), key=lambda item: item[0].replace("none", ""))
    share = max(2, MOST // len(models))
    return pd.concat([best_first(group, share) for _, group in models])


def _strips(dataset, baseline, group, nfe, seed, results) -> list[tuple[str, np.ndarray | str]]:
    """(label, images or the reason why there are none) of every row of a baseline."""
    path = results / "reference" / dataset / f"seed{seed}" / f"{baseline}.safetensors"
    solution = tensors.read(path, "solution", COLUMNS)
    strips = [] if solution is None else [("ODE solution", tensors.to_rgb(solution))]
    for row in group.to_dict("records"):
        images = tensors.read(
            entrant_file(results, "samples", row | {"train_seed": seed}, ".safetensors"), f"nfe{nfe}", COLUMNS
        )
        outcome = human(row["mean"]) if row["status"] == "ok" else row["status"].replace("_", " ")
        name = f"{row['entrant'].removeprefix(baseline).lstrip('+/')}  {outcome}"
        missing = textwrap.shorten(row["reason"], 60) if row["status"] != "ok" else "no sample file"
        strips.append((name, missing if images is None else tensors.to_rgb(images)))
    return strips


def _joined(images: np.ndarray) -> np.ndarray:
    """The images in one row , a white gap after each; small ones are enlarged, for a gap of whole pixels."""
    factor = max(1, math.ceil(26 / images.shape[1]))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    gap = max(1, round(GAP * images.shape[2]))
    padded = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(padded), axis=1)


def _block(axis: Axes, baseline: str, strips: list) -> None:
    step = 1 + GAP
    for i, (_, images) in enumerate(strips):
        if isinstance(images, str):
            axis.text(0, (i + 0.5) * step, images, fontsize=7, color="#aa3333", va="center")
            continue
        strip = _joined(images)
        extent = (0, len(images) * step, (i + 1) * step - GAP, i * step)
        axis.imshow(strip, extent=extent, interpolation="nearest")
    axis.set_xlim(0, COLUMNS * step)
    axis.set_ylim(len(strips) * step, 0)
    axis.set_aspect("auto")
    axis.set_xticks([])
    axis.set_yticks([(i + 0.45) * step for i in range(len(strips))], [name for name, _ in strips], fontsize=7.5)
    axis.tick_params(axis="y", length=0, pad=2)
    axis.spines[:].set_visible(False)
    axis.set_title(baseline, loc="left")
