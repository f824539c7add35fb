"""Training curves: the loss of every model's fits against the step, a panel a model, a thin line a training seed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from evaluation.figures import palette
from evaluation.figures.multiples import grid, in_order
from evaluation.figures.style import INK, save
from evaluation.records import model_name

WINDOW = 7  # points that a smoothed one is the mean of
DECADE = 10  # from where on a log axis has ticks enough


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_training_curves`; nothing where no model was trained."""
    fits = records[(records["dataset"] == dataset) & (records["kind"] == "reference")]
    numbers = curves(dataset, fits, results)
    if not len(numbers):
        return []
    models = list(dict.fromkeys(numbers["model"]))
    figure, axes = grid(len(models), side=2.0, height=1.6)
    for axis, model in zip(axes, models, strict=True):
        rows = numbers[numbers["model"] == model]
        colour, runs = palette.of_model(model), list(dict.fromkeys(rows["run"]))
        for (run, _), line in rows.groupby(["run", "train_seed"], sort=False):
            dash = palette.linestyle(palette.DASHES[runs.index(run) % len(palette.DASHES)])
            axis.plot(line["step"], line["loss"], color=colour, linewidth=0.6, alpha=0.4)
            label = run if run not in axis.get_legend_handles_labels()[1] else None
            axis.plot(line["step"], line["smoothed"], color=colour, linewidth=1.3, linestyle=dash, label=label)
        axis.yaxis.set_major_locator(MaxNLocator(4))
        if rows["loss"].min() > 0 and rows["loss"].max() > DECADE * rows["loss"].min():
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
        if len(runs) > 1:
            axis.legend(frameon=False, fontsize=7, handlelength=2)
        axis.set_title(model, fontsize=9)
        axis.grid(True)
        axis.tick_params(which="both", labelsize=7.5, colors=INK)
    figure.supxlabel("training step", fontsize=9)
    figure.supylabel("loss of a batch", fontsize=9)
    seeds = numbers["train_seed"].nunique()
    caption = (
        f"Training loss on {dataset} against the step: pale as recorded, one batch a point; dark the mean of {WINDOW} "
        f"neighbouring points; {seeds} training seed{'s' * (seeds != 1)}, a line each. Every model minimises a loss of "
        "its own, so heights don't compare between panels."
    )
    return save(figure, results, f"{dataset}_training_curves", caption, numbers)


def curves(dataset: str, fits: pd.DataFrame, results: Path) -> pd.DataFrame:
    """One row a recorded point: model, train_seed, run (the fit's name for it), step, loss, smoothed."""
    seeds = sorted(set(fits["train_seed"].astype(int)))
    rows = []
    for baseline, accelerator in in_order(fits[["baseline", "accelerator"]].itertuples(index=False, name=None)):
        model = model_name(baseline, accelerator)
        for seed in seeds:
            for run, points in _recorded(results / "reference" / dataset / f"seed{seed}" / f"{model}.json").items():
                line = pd.DataFrame(points, columns=["step", "loss"]).assign(model=model, train_seed=seed, run=run)
                rows.append(line.assign(smoothed=smooth(line["loss"])))
    columns = ["model", "train_seed", "run", "step", "loss", "smoothed"]
    return pd.concat(rows)[columns] if rows else pd.DataFrame(columns=columns)


def smooth(values: pd.Series, window: int = WINDOW) -> pd.Series:
    """The mean of the `window` values around each; at an end of those that are there."""
    return values.rolling(window, center=True, min_periods=1).mean()


def _recorded(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Finite (step, loss) points by the run's name; none where the model has no readable record."""
    try:
        found = (json.loads(path.read_text()).get("fit") or {}).get("curves") or {}
    except (OSError, ValueError):
        return {}
    kept = {run: [(s, v) for s, v in points if v is not None and np.isfinite(v)] for run, points in found.items()}
    return {run: points for run, points in kept.items() if points}
