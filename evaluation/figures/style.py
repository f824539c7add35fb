"""One look for all figures: a colour a method (solver or accelerator), a marker and dash a solver, everywhere."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import seaborn as sns
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from evaluation.leaderboard import csv_text
from evaluation.records import model_name
from fewstep.files import atomic, write_text

DPI = 150
MAX_HEIGHT = 7.9  # inches, below 1200 px
INK, MUTED = "#222222", "#8a8a8a"
OTHER = {"color": "#d6d6d6", "linewidth": 0.8, "marker": ".", "markersize": 2}  # a line that is not emphasised
# Okabe and Ito's colours, safe for colour-blind readers, then Tol's muted and dark ones.
HUES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#332288", "#999933", "#44AA99"]
HUES += ["#661100", "#117733", "#CC6677", "#000000", "#AA4499", "#6699CC"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "8", "d"]
DASHES = [(), (4, 1.5), (1, 1), (5, 1, 1, 1), (2, 1), (6, 1.5, 2, 1.5), (3, 1, 1, 1, 1, 1)]
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


@dataclass(frozen=True)
class Style:
    """Colours by model name, by accelerator and by solver, (marker, dash) by solver."""

    colour: dict[str, str]
    hue: dict[str, str]
    solver_colour: dict[str, str]
    marker: dict[str, str]
    dash: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, board: pd.DataFrame, solvers: list[str] | None = None) -> "Style":
        """The style of a study. The hue tells the accelerator (none: dark grey), the lightness the baseline.

        The first of `solvers` (default: in the alphabet) get the colours and markers that are told apart best.
        """
        entrants = board[board["kind"] == "entrant"]
        baselines, solvers = sorted(set(entrants["baseline"])), solvers or sorted(set(entrants["solver"]))
        accelerators = sorted(set(entrants["accelerator"]) - {"none", ""})
        methods = [*accelerators, *solvers]  # no two of them share a colour
        extra = sns.husl_palette(max(1, len(methods) - len(HUES)), s=0.7, l=0.5).as_hex()
        of_method = dict(zip(methods, [*HUES, *extra], strict=False))
        hue = {"none": "#3c3c3c"} | {a: of_method[a] for a in accelerators}
        colour = {
            model_name(b, a): _lighter(hue[a], i / max(1, len(baselines) - 1))
            for i, b in enumerate(baselines)
            for a in hue
        }
        marker = {s: MARKERS[i % len(MARKERS)] for i, s in enumerate(solvers)}
        # One further every round of markers, so that no two solvers share both.
        dash = {s: DASHES[(i + i // len(MARKERS)) % len(DASHES)] for i, s in enumerate(solvers)}
        return cls(colour, hue, {s: of_method[s] for s in solvers}, marker, dash)

    def line(self, solver: str, accelerator: str = "none") -> dict:
        """Keywords of a line: the solver's colour, or the accelerator's where a panel compares several of them."""
        return {
            "color": self.solver_colour[solver] if accelerator == "none" else self.hue[accelerator],
            "marker": self.marker[solver],
            "linestyle": (0, self.dash[solver]) if self.dash[solver] else "-",
            "linewidth": 1.5,
            "markersize": 5,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
        }

    def legend(
        self, figure: Figure, accelerators: list[str], solvers: list[str], others: list[Line2D], grey: bool = False
    ) -> None:
        """One legend to the right of all panels: solvers, then colours of accelerators, then other lines.

        `grey`: some solvers are not emphasised, and one entry stands for them all.
        """

        def head(text: str) -> Line2D:
            return Line2D([], [], linestyle="none", label=f"$\\bf{{{text}}}$")

        handles = [head("solver"), *(Line2D([], [], label=solver, **self.line(solver)) for solver in solvers)]
        handles += [Line2D([], [], label="other solvers", **OTHER)] if grey else []
        if accelerators:
            handles.append(head("accelerator"))
            handles += [Line2D([], [], color=self.hue[a], linewidth=4, label=a) for a in accelerators]
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
        f"{entrant} at NFE {', '.join(map(str, group['nfe']))} ({', '.join(sorted(set(group['status'])))})"
        for entrant, group in bad.groupby("entrant", sort=True)
    ]
    rest = f"; and {len(named) - most} more entrants, see the leaderboard" if len(named) > most else ""
    return "Not shown: " + "; ".join(named[:most]).replace("_", " ") + rest + "."


def seeds_text(rows: pd.DataFrame) -> str:
    """How many training seeds and values are behind each point, in words."""
    seeds, n = int(rows["n_train_seeds"].max()), int(rows["n_values"].max())
    over = sorted(set(rows["interval_over"]) - {"none", ""})
    interval = (
        f"95 % t-intervals over {' and '.join(over).replace('_', ' ')}" if over else "no interval, one value each"
    )
    return f"{seeds} training seed{'s' * (seeds != 1)}, {n} value{'s' * (n != 1)} a point; {interval}"


def _lighter(colour: str, amount: float) -> str:
    """The colour mixed with white, `amount` from 0 (unchanged) to 1 (half white)."""
    return colors.to_hex([c + (1 - c) * 0.5 * amount for c in colors.to_rgb(colour)])
