"""Quality against a cost: a panel a baseline for its training-free solvers, then one for its accelerators."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from evaluation.figures import emphasis, palette
from evaluation.figures.pareto import front
from evaluation.figures.style import INK, MUTED, OTHER, failures, legend, new_figure, note, save, seeds_text
from evaluation.leaderboard import DIGITS, human, rounded
from evaluation.records import model_name

CONTROL_LINES = {"noise": (0, (6, 3)), "data": (0, (2, 2))}
BAND = {"color": "#dcdcdc", "linewidth": 6}
FRONT = {"color": "#d9b44a", "linewidth": 1.3, "marker": "o", "markersize": 10, "markerfacecolor": "#ffe9a8"}
FRONT |= {"markeredgecolor": "none", "zorder": 1.5}
ACROSS = 3  # panels
FEW = 2.2  # decades on which ticks at 2 and 5 have room


@dataclass(frozen=True)
class Cost:
    """An axis of costs: the leaderboard's column, its label, what the caption says of it, and how a tick reads.

    digits: significant ones in which two costs differ; a measured time has two.
    """

    column: str
    label: str
    caption: str
    tick: Callable[[float], str] = "{:g}".format
    extra: tuple[str, ...] = ()  # further columns for the CSV
    digits: int = DIGITS

    @property
    def calls(self) -> bool:
        """Whether the cost is the NFE, of which all points have the same few."""
        return self.column == "nfe"


def panels(dataset: str, board: pd.DataFrame, results: Path, cost: Cost, name: str) -> list[Path]:
    """Draw `<dataset>_<name>`: the primary metric against a cost, the Pareto front of every panel marked."""
    rows = board[board["dataset"] == dataset]
    shown = emphasis.drawable(rows[rows["kind"] == "entrant"])
    shown = shown[shown[cost.column] > 0]
    if not len(shown):
        return []
    shown = shown.assign(model=[model_name(b, a) for b, a in shown[["baseline", "accelerator"]].values])
    parts = [(title, part.assign(pareto=_on_front(part, cost))) for title, part in _parts(rows, shown)]
    across = len(parts) if len(parts) <= ACROSS else 2 if len(parts) == 4 else ACROSS
    down = math.ceil(len(parts) / across)
    figure = new_figure(2.0 + 2.9 * across, 0.6 + 3.4 * down)
    axes = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    controls = rows[(rows["kind"] == "control") & (rows["status"] == "ok") & (rows["mean"] > 0)]
    bright, compared = set(), set()
    for axis, (title, part) in zip(axes, parts, strict=False):
        kept, mixed = emphasis.of_panel(part, by_front=not cost.calls), part["model"].nunique() > 1
        _lines(axis, part, kept, cost.column, mixed)
        _front(axis, part, cost.column)
        axis.set_title(title)
        free = shown[(shown["baseline"].isin(part["baseline"])) & (shown["accelerator"] == "none")]
        if len(free) and set(part["accelerator"]) - {"none"}:
            _free(axis, free, cost, float(shown[cost.column].max()))
        _controls(axis, controls)
        bright |= kept
        compared |= set(part["accelerator"]) if mixed else set()
    _scales(axes, shown, controls, cost)
    _frame(axes, len(parts), across, f"{rows['metric'].iloc[0]} (lower is better)", cost.label)
    shown = pd.concat([part for _, part in parts])
    marked = [(m, s) in bright for m, s in shown[["model", "solver"]].itertuples(index=False)]
    others = _others(controls, bool(set(shown["accelerator"]) - {"none"}))
    legend(figure, sorted(compared), sorted({s for _, s in bright}), others, grey=not all(marked))
    failed = failures(rows)
    if failed:
        note(figure, failed)
    text = _caption(dataset, rows["metric"].iloc[0], shown, cost, all(marked))
    columns = ["entrant", "baseline", "accelerator", "solver", "nfe", "seconds_per_sample", "gflop_per_sample"]
    columns += ["metric", "mean", "low", "high", "n_values", "interval_over", *cost.extra]
    columns += [] if cost.column in columns else [cost.column]
    numbers = pd.concat([controls.assign(emphasised=True, pareto=False), shown.assign(emphasised=marked)])
    numbers = numbers[[*columns, "emphasised", "pareto"]]
    return save(figure, results, f"{dataset}_{name}", f"{text} {failed}".strip(), numbers)


def _on_front(part: pd.DataFrame, cost: Cost) -> pd.Series:
    """What differs by rounding is a tie, as in the leaderboard."""
    costs = part[cost.column].astype(float).map(lambda value: rounded(value, cost.digits))
    return front(costs, part["mean"].map(rounded))


def _caption(dataset: str, metric: str, shown: pd.DataFrame, cost: Cost, complete: bool) -> str:
    text = f"{metric} on {dataset} {cost.caption}; lower is better. {seeds_text(shown)}."
    text += " Pale discs mark each panel's Pareto front: no other point there is both cheaper and better."
    text += " Times bear no interval; those that agree in two digits count as equal." if cost.digits < DIGITS else ""
    if set(shown["accelerator"]) - {"none"}:
        text += " The grey band is the best of the same baseline without an accelerator."
    if not complete:
        plain = emphasis.reference(sorted(set(shown["solver"])))
        which = "that are best at some NFE" if cost.calls else "with most points on the front"
        text += (
            f" Of more than {emphasis.MOST} lines a panel emphasises those {which}, and {plain} for reference; thin "
            "grey lines are the other solvers, all in the CSV."
        )
    return text


def _parts(rows: pd.DataFrame, shown: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(title, rows) of every panel: each baseline without accelerators, then each that has some."""
    fitted = sorted(set(shown.loc[shown["accelerator"] != "none", "baseline"]))
    parts = []
    for baseline in sorted(rows.loc[rows["kind"] == "entrant", "baseline"].unique()):
        part = shown[(shown["baseline"] == baseline) & (shown["accelerator"] == "none")]
        parts.append((f"{baseline}, no accelerator" if fitted else baseline, part))
    for baseline in fitted:
        part = shown[(shown["baseline"] == baseline) & (shown["accelerator"] != "none")]
        models = sorted(set(part["model"]))
        parts.append((models[0] if len(models) == 1 else f"{baseline}, accelerated", part))
    return parts


def _lines(axis: Axes, rows: pd.DataFrame, kept: set, x: str, mixed: bool) -> None:
    """The lines of a panel, with intervals where they are emphasised; `mixed`: colours tell accelerators apart."""
    for (model, accelerator, solver), line in rows.groupby(["model", "accelerator", "solver"]):
        line = line.sort_values("nfe")
        if (model, solver) not in kept:
            axis.plot(line[x].astype(float), line["mean"], zorder=2, **OTHER)
            continue
        look = palette.line(solver, accelerator if mixed else "none")
        axis.plot(line[x].astype(float), line["mean"], zorder=4, **look)
        low = line["low"].clip(lower=line["mean"] * 1e-3)  # a log axis has no room for zero
        axis.vlines(line[x].astype(float), low, line["high"], color=look["color"], alpha=0.4, linewidth=1.2, zorder=3)


def _front(axis: Axes, rows: pd.DataFrame, x: str) -> None:
    """A step leads to the next better point: between two of them nothing better can be had for the cost."""
    points = rows[rows["pareto"]].sort_values(x)
    axis.plot(points[x].astype(float), points["mean"], drawstyle="steps-post", **FRONT)


def _free(axis: Axes, rows: pd.DataFrame, cost: Cost, end: float) -> None:
    """What the baseline does without accelerators: the best at each NFE, or the Pareto front up to the cost `end`."""
    if cost.calls:
        best, style = rows.groupby("nfe")["mean"].min(), "default"
    else:
        best, style = rows[_on_front(rows, cost)].set_index(cost.column)["mean"].sort_index(), "steps-post"
        best = pd.concat([best, pd.Series([best.iloc[-1]], index=[end])])
    axis.plot(best.index.astype(float), best, drawstyle=style, zorder=1, **BAND)


def _controls(axis: Axes, controls: pd.DataFrame) -> None:
    for row in controls.itertuples():
        axis.axhline(row.mean, color=MUTED, linewidth=1, linestyle=CONTROL_LINES.get(row.entrant, ":"), zorder=1)


def _others(controls: pd.DataFrame, best: bool) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            color=MUTED,
            linewidth=1,
            linestyle=CONTROL_LINES.get(row.entrant, ":"),
            label=f"{row.entrant}, {human(row.mean)}",
        )
        for row in controls.itertuples()
    ]
    handles.append(Line2D([], [], label="Pareto front", **FRONT))
    if best:
        handles.append(Line2D([], [], label="best, no accelerator", **BAND))
    return handles


def _frame(axes: list[Axes], n: int, across: int, y_label: str, x_label: str) -> None:
    """Labels at the left and below, where a panel has no neighbour; no axes beyond the `n` panels."""
    for i, axis in enumerate(axes):
        axis.set_visible(i < n)
        if i % across == 0:
            axis.set_ylabel(y_label)
        if i + across >= n:
            axis.set_xlabel(x_label)
            axis.tick_params(labelbottom=True)


def _scales(axes: list[Axes], shown: pd.DataFrame, controls: pd.DataFrame, cost: Cost) -> None:
    """Log scales that the means and the controls set; a wide interval or one exploding line may leave the panel."""
    top = max(shown["mean"].quantile(0.98), controls["mean"].max() if len(controls) else 0)
    low = min(shown["mean"].min(), controls["mean"].min() if len(controls) else shown["mean"].min())
    ticks = _spaced(sorted(map(int, shown["nfe"].unique())))
    decades = math.log10(shown[cost.column].max() / shown[cost.column].min())
    for axis in axes:
        axis.set_yscale("log")
        axis.set_xscale("log")
        axis.set_ylim(low / 1.4, top * 1.6)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: human(v)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(True, which="major", zorder=0)
        axis.tick_params(colors=INK, labelsize=8)
        if cost.calls:
            axis.xaxis.set_major_locator(FixedLocator(ticks))
            axis.xaxis.set_minor_locator(NullLocator())
        else:
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < FEW else (1,)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: cost.tick(v)))


def _spaced(ticks: list[int]) -> list[int]:
    """Those ticks that stand far enough apart on a log axis for their labels, from the largest down."""
    kept: list[int] = []
    for tick in reversed(ticks):
        if not kept or kept[-1] >= tick * (ticks[-1] / ticks[0]) ** 0.05:
            kept.append(tick)
    return kept[::-1]
