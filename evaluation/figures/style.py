"""One look for all figures: sizes, fonts, the legend, and how a picture is saved with its numbers and caption."""

import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.figures import palette
from evaluation.leaderboard import csv_text
from fewstep.files import atomic, write_text

DPI = 150
MAX_WIDTH, MAX_HEIGHT = 10.7, 7.9  # inches: a landscape A4 page within margins, so that 7 pt are 7 pt; below 1200 px
OVER = {"train_seeds": "training seeds", "jackknife": "parts left out in turn (jackknife)"}
INK, MUTED = "#222222", "#707070"
OTHER = {"color": "#d6d6d6", "linewidth": 0.8, "marker": ".", "markersize": 2}  # a line that is not emphasised
RC = {
    "svg.hashsalt": "fewstep",  # without it the ids in an SVG are random
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "grid.color": "#e6e6e6",
    "figure.constrained_layout.use": True,
}


def legend(
    figure: Figure, accelerators: list[str], solvers: list[str], others: list[Line2D], grey: bool = False
) -> None:
    """One legend to the right of all panels: solvers, then colours of accelerators, then other lines.

    `grey`: some solvers are not emphasised, and one entry stands for them all.
    """

    def head(text: str) -> Line2D:
        return Line2D([], [], linestyle="none", label=f"$\\bf{{{text}}}$")

    handles = [head("solver"), *(Line2D([], [], label=solver, **palette.line(solver)) for solver in solvers)]
    handles += [Line2D([], [], label="other solvers", **OTHER)] if grey else []
    if accelerators:
        handles.append(head("accelerator"))
        handles += [
            Line2D([], [], color=palette.colour(a), linewidth=3, linestyle=(0, palette.accelerator_dash(a)), label=a)
            for a in accelerators
        ]
    if others:
        handles += [head("reference"), *others]
    columns = 1 if len(handles) <= 34 else 2
    figure.legend(handles=handles, loc="outside right upper", frameon=False, handlelength=3.2, ncols=columns)


def new_figure(width: float, height: float, tallest: float = MAX_HEIGHT) -> Figure:
    """An empty figure in the house style, in inches; drawn without global state."""
    apply()
    return Figure(figsize=(width, min(height, tallest)), dpi=DPI, layout="constrained")


def apply() -> None:
    """Set the house style for what is drawn from now on."""
    sns.set_theme(context="paper", style="ticks", rc=RC)


def save(figure: Figure, results: Path, name: str, caption: str, numbers: pd.DataFrame) -> list[Path]:
    """Write `figures/<name>` as .png, .svg and .csv; the caption travels inside the images."""
    stem = results / "figures" / name
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # everything has its place now: one layout serves both files
    for extension, metadata in (
        (".png", {"Title": name, "Description": caption}),
        (".svg", {"Title": name, "Description": caption, "Date": None}),
    ):
        with atomic(stem.with_name(name + extension)) as temporary:
            figure.savefig(temporary, format=extension[1:], dpi=DPI, metadata=metadata)
    write_text(stem.with_name(name + ".csv"), csv_text(numbers))
    return [stem.with_name(name + extension) for extension in (".png", ".svg", ".csv")]


def note(figure: Figure, text: str) -> None:
    """Small lines below all panels, as long as the figure is wide."""
    lines = textwrap.fill(text, int(figure.get_figwidth() * 16))
    figure.supxlabel(lines, fontsize=7.5, color="#555555", x=0.01, ha="left", multialignment="left")


def failures(rows: pd.DataFrame, most: int = 4) -> str:
    """The note "Not shown: …" for the entrants with points that are not ok, or "" where all are."""
    bad = rows[~rows["status"].isin(["ok", "skipped"])]
    if not len(bad):
        return ""
    named = [
        f"{entrant} at NFE {', '.join(map(str, group['nfe']))} ({', '.join(_spaced(sorted(set(group['status']))))})"
        for entrant, group in bad.groupby("entrant", sort=True)
    ]
    rest = f"; and {len(named) - most} more entrants, see the leaderboard" if len(named) > most else ""
    return "Not shown: " + "; ".join(named[:most]) + rest + "."


def _spaced(names: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def over_text(over: pd.Series) -> str:
    """What intervals are over, in words; "" where there are none."""
    return " and ".join(OVER.get(name, name.replace("_", " ")) for name in sorted(set(over) - {"none", ""}))


def seeds_text(rows: pd.DataFrame) -> str:
    """How many training seeds and values are behind each point, in words."""
    seeds, n = int(rows["n_train_seeds"].max()), int(rows["n_values"].max())
    over = over_text(rows["interval_over"])
    interval = f"95 % t-intervals over {over}" if over else "no interval, one value each"
    return f"{seeds} training seed{'s' * (seeds != 1)}, {n} value{'s' * (n != 1)} a point; {interval}"
