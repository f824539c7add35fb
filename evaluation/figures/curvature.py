"""Curvature of every model's ODE paths, with its interval."""

from pathlib import Path

import pandas as pd

from evaluation.figures import palette
from evaluation.figures.style import INK, new_figure, over_text, save
from evaluation.leaderboard import human
from evaluation.statistics import summarise_measurement


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_curvature`: one bar a model, straightest at the top."""
    measured = records[
        (records["dataset"] == dataset) & (records["kind"] == "reference") & (records["metric"] == "curvature")
    ]
    rows = []
    for model, group in measured.groupby("model", sort=True):
        summary = summarise_measurement(group)
        row = {"model": model, "mean": summary.mean, "low": summary.low, "high": summary.high}
        row |= {
            "n_train_seeds": summary.seeds,
            "n_paths": group["n_generated"].max(),
            "n_steps": group["n_steps"].max(),
        }
        rows.append(row | {"interval_over": summary.interval_over})
    if not rows:
        return []
    numbers = pd.DataFrame(rows).sort_values(["mean", "model"]).reset_index(drop=True)
    figure = new_figure(7.5, 0.9 + 0.27 * len(numbers))
    axis = figure.subplots()
    axis.barh(numbers["model"], numbers["mean"], color=[palette.of_model(m) for m in numbers["model"]], height=0.72)
    right = numbers["mean"].max() * 1.25
    for i, row in numbers.iterrows():
        wide = row["high"] - row["low"] > 0.01 * right
        for colour, width in (("white", 3 * wide), (INK, 1.2)):  # seen on a dark bar as beside it
            axis.hlines(i, max(row["low"], 0), min(row["high"], right), color=colour, linewidth=width)
        axis.annotate(
            human(row["mean"]), (1.01, i), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=INK
        )
    axis.set_xlim(0, right)
    axis.invert_yaxis()
    axis.grid(True, axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("curvature of the ODE paths (0 is straight)")
    axis.set_title(dataset, loc="left")
    over = over_text(numbers["interval_over"]) or "nothing"
    steps = numbers["n_steps"].dropna()
    caption = f"Curvature of the ODE paths on {dataset}, 0 is straight; 95 % intervals over {over}"
    caption += f", {int(numbers['n_paths'].max())} paths" if numbers["n_paths"].notna().any() else ""
    caption += f", N = {int(steps.iloc[0])} Euler steps" if len(steps) else ""
    return save(figure, results, f"{dataset}_curvature", caption + ".", numbers)
