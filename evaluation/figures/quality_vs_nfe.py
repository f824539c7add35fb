"""Quality against NFE: a column of panels a baseline, training-free solvers above, accelerators below."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from evaluation.figures.style import INK, MUTED, Style, failures, new_figure, note, save, seeds_text
from evaluation.leaderboard import human
from evaluation.records import model_name

X_LABEL = {"nfe": "NFE (network calls per sample)", "seconds_per_sample": "seconds per sample"}
CONTROL_LINES = {"noise": (0, (6, 3)), "data": (0, (2, 2))}


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
    shown = entrants[(entrants["status"] == "ok") & (entrants["mean"] > 0) & entrants[x].notna()]
    if not len(shown):
        return []
    baselines = sorted(entrants["baseline"].unique())
    accelerated = sorted(set(shown["accelerator"]) - {"none"})
    n_rows = 2 if accelerated else 1
    figure = new_figure(2.2 + 2.9 * len(baselines), 0.6 + 3.4 * n_rows)
    axes = figure.subplots(n_rows, len(baselines), sharex=True, sharey=True, squeeze=False)
    controls = rows[(rows["kind"] == "control") & (rows["status"] == "ok") & (rows["mean"] > 0)]
    for j, baseline in enumerate(baselines):
        free = shown[(shown["baseline"] == baseline) & (shown["accelerator"] == "none")]
        _lines(axes[0, j], free, x, style)
        axes[0, j].set_title(baseline if not accelerated else f"{baseline}, no accelerator")
        if accelerated:
            fitted = shown[(shown["baseline"] == baseline) & (shown["accelerator"] != "none")]
            axes[1, j].set_visible(len(fitted) > 0)
            _lines(axes[1, j], fitted, x, style)
            axes[1, j].set_title(f"{baseline}, accelerated")
            if x == "nfe" and len(free):
                best = free.groupby("nfe")["mean"].min()
                axes[1, j].plot(best.index.astype(int), best, color="#cfcfcf", linewidth=5, zorder=1)
    for axis in axes.flat:
        _controls(axis, controls)
    _scales(axes, shown, controls, x)
    for i, j in ((i, j) for i in range(n_rows) for j in range(len(baselines))):
        if j == 0 or not axes[i, j - 1].get_visible():
            axes[i, j].set_ylabel(f"{rows['metric'].iloc[0]} (lower is better)")
            axes[i, j].tick_params(labelleft=True)
        if i == n_rows - 1 or not axes[i + 1, j].get_visible():
            axes[i, j].set_xlabel(X_LABEL[x])
            axes[i, j].tick_params(labelbottom=True)
    models = [m for m in style.colour if m in {model_name(b, a) for b, a in shown[["baseline", "accelerator"]].values}]
    style.legend(figure, models, sorted(shown["solver"].unique()), _others(controls, x == "nfe" and bool(accelerated)))
    failed = failures(rows)
    if failed:
        note(figure, failed)
    text = f"{rows['metric'].iloc[0]} on {dataset} {caption}, lower is better. {seeds_text(shown)}. {failed}".strip()
    columns = [
        "entrant",
        "baseline",
        "accelerator",
        "solver",
        "nfe",
        "seconds_per_sample",
        "metric",
        "mean",
        "low",
        "high",
    ]
    numbers = pd.concat([controls, shown])[[*columns, "n_values", "interval_over"]]
    return save(figure, results, f"{dataset}_{name}", text, numbers)


def _lines(axis: Axes, rows: pd.DataFrame, x: str, style: Style) -> None:
    for (_, baseline, accelerator, solver), line in rows.groupby(["entrant", "baseline", "accelerator", "solver"]):
        line = line.sort_values(x)
        look = style.line(model_name(baseline, accelerator), solver)
        axis.plot(line[x].astype(float), line["mean"], zorder=3, **look)
        low = line["low"].clip(lower=line["mean"] * 1e-3)  # a log axis has no room for zero
        axis.vlines(line[x].astype(float), low, line["high"], color=look["color"], alpha=0.35, linewidth=1.2, zorder=2)


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
        handles.append(Line2D([], [], color="#cfcfcf", linewidth=5, label="best, no accelerator"))
    return handles


def _scales(axes, shown: pd.DataFrame, controls: pd.DataFrame, x: str) -> None:
    """Log scales that the means and the controls set; a wide interval or one exploding line may leave the panel."""
    top = max(shown["mean"].quantile(0.98), controls["mean"].max() if len(controls) else 0)
    low = min(shown["mean"].min(), controls["mean"].min() if len(controls) else shown["mean"].min())
    for axis in axes.flat:
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
