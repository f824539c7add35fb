"""Quality against NFE: a panel a baseline for its training-free solvers, then one for its accelerators."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from evaluation.figures import emphasis
from evaluation.figures.style import INK, MUTED, OTHER, Style, failures, new_figure, note, save, seeds_text
from evaluation.leaderboard import human
from evaluation.records import model_name

X_LABEL = {"nfe": "NFE (network calls per sample)", "seconds_per_sample": "seconds per sample"}
CONTROL_LINES = {"noise": (0, (6, 3)), "data": (0, (2, 2))}
BAND = {"color": "#dcdcdc", "linewidth": 6}


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path, style: Style) -> list[Path]:
    """Draw `<dataset>_quality_vs_nfe`."""
    caption = "against the number of network calls per sample"
    return panels(dataset, board, results, style, x="nfe", name="quality_vs_nfe", caption=caption)


def panels(
    dataset: str, board: pd.DataFrame, results: Path, style: Style, x: str, name: str, caption: str
) -> list[Path]:
    """Draw the primary metric of a dataset against the leaderboard's column `x`."""
    rows = board[board["dataset"] == dataset]
    entrants = rows[rows["kind"] == "entrant"]
    shown = emphasis.drawable(entrants)
    shown = shown[shown[x].notna()]
    if not len(shown):
        return []
    shown = shown.assign(model=[model_name(b, a) for b, a in shown[["baseline", "accelerator"]].values])
    parts = _parts(entrants, shown)
    across = len(parts) if len(parts) <= 3 else math.ceil(len(parts) / 2)
    down = math.ceil(len(parts) / across)
    figure = new_figure(2.2 + 3.1 * across, 0.6 + 3.5 * down)
    axes = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    controls = rows[(rows["kind"] == "control") & (rows["status"] == "ok") & (rows["mean"] > 0)]
    bright, compared = set(), set()
    for axis, (title, part) in zip(axes, parts, strict=False):
        kept, mixed = emphasis.of_panel(part), part["model"].nunique() > 1
        _lines(axis, part, kept, x, style, mixed)
        axis.set_title(title)
        free = shown[(shown["baseline"].isin(part["baseline"])) & (shown["accelerator"] == "none")]
        if x == "nfe" and len(free) and set(part["accelerator"]) - {"none"}:
            best = free.groupby("nfe")["mean"].min()
            axis.plot(best.index.astype(int), best, zorder=1, **BAND)
        _controls(axis, controls)
        bright |= kept
        compared |= set(part["accelerator"]) if mixed else set()
    _scales(axes, shown, controls, x)
    _frame(axes, len(parts), across, f"{rows['metric'].iloc[0]} (lower is better)", X_LABEL[x])
    accelerated = bool(set(shown["accelerator"]) - {"none"})
    marked = [(m, s) in bright for m, s in shown[["model", "solver"]].itertuples(index=False)]
    solvers = sorted({s for _, s in bright})
    others = _others(controls, x == "nfe" and accelerated)
    style.legend(figure, sorted(compared), solvers, others, grey=not all(marked))
    failed = failures(rows)
    if failed:
        note(figure, failed)
    text = f"{rows['metric'].iloc[0]} on {dataset} {caption}, lower is better. {seeds_text(shown)}."
    if not all(marked):
        plain = emphasis.reference(sorted(set(shown["solver"])))
        text += (
            f" Of more than {emphasis.MOST} lines a panel emphasises those that are best at some NFE and {plain} for "
            "reference; thin grey lines are the other solvers, all in the CSV."
        )
    columns = ["entrant", "baseline", "accelerator", "solver", "nfe", "seconds_per_sample", "metric"]
    columns += ["mean", "low", "high", "n_values", "interval_over"]
    numbers = pd.concat([controls.assign(emphasised=True), shown.assign(emphasised=marked)])
    return save(figure, results, f"{dataset}_{name}", f"{text} {failed}".strip(), numbers[[*columns, "emphasised"]])


def _parts(entrants: pd.DataFrame, shown: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """(title, rows) of every panel: each baseline without accelerators, then each that has some."""
    fitted = sorted(set(shown.loc[shown["accelerator"] != "none", "baseline"]))
    parts = []
    for baseline in sorted(entrants["baseline"].unique()):
        part = shown[(shown["baseline"] == baseline) & (shown["accelerator"] == "none")]
        parts.append((f"{baseline}, no accelerator" if fitted else baseline, part))
    for baseline in fitted:
        part = shown[(shown["baseline"] == baseline) & (shown["accelerator"] != "none")]
        models = sorted(set(part["model"]))
        parts.append((models[0] if len(models) == 1 else f"{baseline}, accelerated", part))
    return parts


def _lines(axis: Axes, rows: pd.DataFrame, kept: set, x: str, style: Style, mixed: bool) -> None:
    """The lines of a panel, with intervals where they are emphasised; `mixed`: colours tell accelerators apart."""
    for (model, accelerator, solver), line in rows.groupby(["model", "accelerator", "solver"]):
        line = line.sort_values(x)
        if (model, solver) not in kept:
            axis.plot(line[x].astype(float), line["mean"], zorder=2, **OTHER)
            continue
        look = style.line(solver, accelerator if mixed else "none")
        axis.plot(line[x].astype(float), line["mean"], zorder=4, **look)
        low = line["low"].clip(lower=line["mean"] * 1e-3)  # a log axis has no room for zero
        axis.vlines(line[x].astype(float), low, line["high"], color=look["color"], alpha=0.35, linewidth=1.2, zorder=3)


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


def _scales(axes: list[Axes], shown: pd.DataFrame, controls: pd.DataFrame, x: str) -> None:
    """Log scales that the means and the controls set; a wide interval or one exploding line may leave the panel."""
    top = max(shown["mean"].quantile(0.98), controls["mean"].max() if len(controls) else 0)
    low = min(shown["mean"].min(), controls["mean"].min() if len(controls) else shown["mean"].min())
    for axis in axes:
        axis.set_yscale("log")
        axis.set_xscale("log")
        axis.set_ylim(low / 1.4, top * 1.6)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: human(v)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(True, which="major", zorder=0)
        axis.tick_params(colors=INK, labelsize=8)
        if x == "nfe":
            ticks = _spaced(sorted(map(int, shown["nfe"].unique())))
            axis.xaxis.set_major_locator(FixedLocator(ticks))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))


def _spaced(ticks: list[int]) -> list[int]:
    """Those ticks that stand far enough apart on a log axis for their labels, from the largest down."""
    kept: list[int] = []
    for tick in reversed(ticks):
        if not kept or kept[-1] >= tick * (ticks[-1] / ticks[0]) ** 0.05:
            kept.append(tick)
    return kept[::-1]
