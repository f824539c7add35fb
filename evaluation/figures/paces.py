"""At which pace each dimension of a sample goes through the noise, where a model lets them differ."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from evaluation.figures import tensors
from evaluation.figures.multiples import in_order
from evaluation.figures.samples_2d import set_limits
from evaluation.figures.style import MUTED, new_figure, save
from evaluation.records import entrant_file, model_name
from fewstep import registry

MODELS = 12  # pictures a dataset, at most
NODES = 6  # columns of steps, at most
ROWS = 4  # images
REACH = 3.0  # of the noise that is drawn from black to white
SIDE, PANEL = 1.15, 1.5  # inches of an image, of a panel of points, with the gap beside it
GAP = 0.08  # of a side
ABOVE, BAR, EDGE = 0.75, 0.95, 0.1  # inches: of a column's numbers, of the colours' bar, around
BESIDE = 0.25  # inches of a row's label
COLOURS = colormaps["RdBu_r"]


@dataclass(frozen=True)
class Shown:
    """The tensors of `evaluation.paces.tensors_of` at the N - 1 nodes between the ends, in noise fractions.

    start       [m, *shape]         what the samples start from, as unit noise
    t, u        [N - 1]             each node's time and its noise fraction sigma / (alpha + sigma), from noise to data
    difference  [m, N - 1, *shape]  the noise fraction that each dimension has reached there, less u
    """

    start: np.ndarray
    t: np.ndarray
    u: np.ndarray
    difference: np.ndarray

    @classmethod
    def read(cls, file: Path, baseline: str) -> Shown | None:
        """None where the file is missing, its model has no paces, or nothing is between its ends."""
        found = [tensors.read(file, name) for name in ("pace_start", "pace_times", "pace")]
        known = registry.of_kind("baseline")
        if any(part is None or not np.isfinite(part).all() for part in found) or baseline not in known:
            return None
        start, t, pace = found
        if len(t) < 3:
            return None
        from torch import from_numpy

        from fewstep.paths import make_path  # brings PyTorch, which figures without paces do without

        path = make_path(known[baseline].card.path)
        u, own = (path.fraction(from_numpy(part).double()).numpy() for part in (t[1:-1], pace[:, 1:-1]))
        return cls(start, t[1:-1], u, own - u.reshape(-1, *[1] * (start.ndim - 1)))

    @property
    def steps(self) -> int:
        """N."""
        return len(self.t) + 1

    @property
    def columns(self) -> np.ndarray:
        """The nodes to draw: all, or `NODES` of them, evenly spread."""
        n = len(self.t)
        return np.linspace(0, n - 1, min(n, NODES)).round().astype(int)


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_paces_<model>` for the models whose reference has paces, at most `MODELS` of them."""
    of_dataset = records[records["dataset"] == dataset]
    fits = of_dataset[of_dataset["kind"] == "reference"]
    seed = fits["train_seed"].min()
    found: dict[tuple[str, str], Shown] = {}
    for baseline, accelerator in in_order(fits[["baseline", "accelerator"]].itertuples(index=False, name=None)):
        name = f"{model_name(baseline, accelerator)}.safetensors"
        shown = Shown.read(results / "reference" / dataset / f"seed{seed}" / name, baseline)
        if shown is not None and (shown.start.ndim == 4 or shown.start.shape[1:] == (2,)):
            found[baseline, accelerator] = shown
    paths: list[Path] = []
    for (baseline, accelerator), shown in list(found.items())[:MODELS]:
        model = model_name(baseline, accelerator)
        points = of_dataset[(of_dataset["baseline"] == baseline) & (of_dataset["accelerator"] == accelerator)]
        if shown.start.ndim == 4:
            figure, told = _images(shown, _samples(points, shown.steps, seed, results))
        else:
            figure, told = _plane(shown)
        caption = (
            f"Paces of {model} on {dataset}, training seed {seed}, {shown.steps} steps: the noise fraction "
            "u = sigma / (alpha + sigma) at which each dimension is when a step begins, less that of the step's time "
            "t. Red: noisier than t says; blue: less noisy. "
        ) + told
        if len(found) > MODELS:
            caption += f" Of {len(found)} models with paces the first {MODELS} are drawn."
        paths += save(figure, results, f"{dataset}_paces_{model}", caption, numbers(shown, model, seed))
    return paths


def numbers(shown: Shown, model: str, seed: int) -> pd.DataFrame:
    """One row a node: t, u, and the difference's mean and spread over samples and over dimensions.

    Of spreads, the standard deviations of one dimension over samples and of one sample over its dimensions, their root
    mean squares are given.
    """
    d = shown.difference.reshape(*shown.difference.shape[:2], -1)  # [m, N - 1, dimensions]
    columns = {"model": model, "train_seed": seed, "node": np.arange(1, shown.steps), "t": shown.t, "u": shown.u}
    columns |= {"difference": d.mean((0, 2)), "spread_over_samples": np.sqrt(d.var(0).mean(1))}
    return pd.DataFrame(columns | {"spread_over_dimensions": np.sqrt(d.var(2).mean(0))})


def _samples(points: pd.DataFrame, nfe: int, seed: int, results: Path) -> np.ndarray | None:
    """The model's images of the first latents, by the first of its solvers that made some with this many calls."""
    made = points[(points["kind"] == "entrant") & (points["nfe"] == nfe) & (points["train_seed"] == seed)]
    for point in made.drop_duplicates("solver").sort_values("solver").to_dict("records"):
        images = tensors.read(entrant_file(results, "samples", point, ".safetensors"), f"nfe{nfe}", ROWS)
        if images is not None:
            return images
    return None


def _images(shown: Shown, samples: np.ndarray | None) -> tuple[Figure, str]:
    """A row a sample: the noise it starts from, a map of its pixels' differences at each node, the sample itself."""
    rows, across = min(ROWS, len(shown.start)), 1 + len(shown.columns) + (samples is not None)
    norm = _norm(shown)
    figure, axes = _panels(rows, across, SIDE, EDGE, norm)
    noise = tensors.to_rgb(np.clip(shown.start[:rows] / REACH, -1, 1))
    for i, row in enumerate(axes):
        row[0].imshow(noise[i], interpolation="nearest")
        for axis, node in zip(row[1:], shown.columns, strict=False):
            axis.imshow(shown.difference[i, node].mean(0), norm=norm, cmap=COLOURS, interpolation="nearest")
        if samples is not None and i < len(samples):
            row[-1].imshow(tensors.to_rgb(samples[i : i + 1])[0], interpolation="nearest")
    _head(axes[0, 0], "start")
    _heads(axes[0, 1:], shown, "pixels")
    if samples is not None:
        _head(axes[0, -1], "sample")
    colours = ", averaged over its colours" if shown.start.shape[1] > 1 else ""
    made = "; last, the image that the model makes of it" if samples is not None else ""
    told = f"A row is a sample: the noise that it starts from; each pixel's difference{colours}{made}. "
    return figure, told + _told(shown, "pixels")


def _plane(shown: Shown) -> tuple[Figure, str]:
    """The points that samples start from, coloured by the differences of one dimension a row."""
    rows, across = 2, len(shown.columns)
    norm = _norm(shown)
    figure, axes = _panels(rows, across, PANEL, EDGE + BESIDE, norm)
    for i, row in enumerate(axes):
        for axis, node in zip(row, shown.columns, strict=True):
            colours = COLOURS(norm(shown.difference[:, node, i]))
            axis.scatter(*shown.start.T, s=9, c=colours, edgecolors="#8c8c8c", linewidths=0.25, rasterized=True)
            set_limits(axis, shown.start, 1.1)
        row[0].set_ylabel(f"dimension {i + 1}", fontsize=8)
    _heads(axes[0], shown, "dimensions")
    told = "A point is a sample, where it starts in the plane; each dimension has a row of its own. "
    return figure, told + _told(shown, "dimensions")


def _norm(shown: Shown) -> CenteredNorm:
    """One scale for the whole picture."""
    return CenteredNorm(0, np.abs(shown.difference).max() or 1.0)


def _panels(rows: int, across: int, side: float, left: float, norm: CenteredNorm) -> tuple[Figure, np.ndarray]:
    """A figure of rows x across panels without ticks, `left` inches from its edge, and the colours' bar."""
    wide, high = left + across * side + BAR, ABOVE + rows * side + EDGE
    figure = new_figure(wide, high)
    figure.set_layout_engine("none")  # everything here has its place in inches
    right, top, bottom = 1 - BAR / wide, 1 - ABOVE / high, EDGE / high
    places = {"left": left / wide, "right": right, "top": top, "bottom": bottom, "wspace": GAP, "hspace": GAP}
    axes = figure.subplots(rows, across, squeeze=False, gridspec_kw=places)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    room = figure.add_axes((right + 0.12 / wide, bottom, 0.13 / wide, top - bottom))
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), cax=room)
    bar.set_label("noise fraction, less that of t", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    return figure, axes


def _heads(axes: np.ndarray, shown: Shown, parts: str) -> None:
    """Above the columns of nodes their numbers."""
    for axis, node in zip(axes, numbers(shown, "", 0).iloc[shown.columns].itertuples(), strict=False):
        spreads = f"samples ± {node.spread_over_samples:.3f}\n{parts} ± {node.spread_over_dimensions:.3f}"
        _head(axis, f"t = {node.t:.3g}", f"mean {node.difference:+.3f}\n{spreads}".replace("-", "\N{MINUS SIGN}"))


def _head(axis: Axes, title: str, below: str = "") -> None:
    axis.set_title(title, fontsize=8.5, pad=33 if below else 4)
    axis.text(0.5, 1.03, below, transform=axis.transAxes, ha="center", va="bottom", fontsize=7, color=MUTED)


def _told(shown: Shown, parts: str) -> str:
    told = (
        f"Above each column: the mean difference, over {len(shown.start)} samples and all {parts}, and its standard "
        f"deviations, that of single {parts} over samples and that of single samples over {parts}."
    )
    if len(shown.columns) < len(shown.t):
        told += f" {len(shown.columns)} of the {len(shown.t)} times between the ends are shown."
    return told
