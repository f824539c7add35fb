"""At which noise levels every entrant calls the network: the schedules of its own that a method learnt or chose."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from evaluation.figures import emphasis, palette
from evaluation.figures.multiples import grid
from evaluation.figures.style import INK, OTHER, legend, save
from evaluation.records import entrant_file
from fewstep import registry

SHOWN = (5, 10)  # NFE, or the nearest smaller ones that a study has
REACH = 1e-3, 1e3  # sigma / alpha; what lies beyond, as infinity at t = 1, is drawn at the end
SAME = 0.01  # two schedules are one when no level differs by more, of its own size


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_schedules`; nothing where no entrant has a schedule of its own, or none was recorded."""
    points = records[(records["dataset"] == dataset) & (records["kind"] == "entrant") & (records["status"] == "ok")]
    if not len(points):
        return []
    points = points[points["train_seed"] == points["train_seed"].min()]
    made = sorted(points["nfe"].unique())
    nfes = sorted({max((n for n in made if n <= limit), default=made[0]) for limit in SHOWN})
    numbers = own(_levels(points[points["nfe"].isin(nfes)], results))
    baselines = sorted(set(numbers.loc[numbers["own"], "baseline"]))
    if not baselines:
        return []
    numbers = numbers[numbers["baseline"].isin(baselines)].sort_values(["nfe", "baseline", "entrant", "call"])
    panels = [(n, b) for n in nfes for b in baselines]
    most = len(baselines) if len(baselines) < 4 else 3
    figure, axes = grid(len(panels), side=2.9, height=2.6, most=most, sharey=True)
    plain = emphasis.reference(sorted(set(numbers["solver"])))
    bright, compared = set(), set()
    for axis, (nfe, baseline) in zip(axes, panels, strict=True):
        rows = numbers[(numbers["nfe"] == nfe) & (numbers["baseline"] == baseline)]
        shown = _panel(axis, rows, plain)
        bright |= set(shown["solver"])
        compared |= set(shown["accelerator"]) - {"none"}
        axis.set_title(f"{baseline}, NFE {nfe}", fontsize=9)
    figure.supxlabel("network call", fontsize=9)
    figure.supylabel("noise level of the call, sigma / alpha", fontsize=9)
    legend(figure, sorted(compared), sorted(bright), [], grey=True)
    caption = (
        f"Noise level sigma / alpha of each network call on {dataset}, in the order of the calls: in colour the "
        f"entrants with a schedule that no fixed rule shares, and {plain}; in grey all others. Levels beyond "
        f"{REACH[0]:g} and {REACH[1]:g}, as pure noise, are drawn there; of times a sample their mean is shown."
    )
    return save(figure, results, f"{dataset}_schedules", caption, numbers.drop(columns="order"))


def own(numbers: pd.DataFrame) -> pd.DataFrame:
    """Adds `own`: that no rule which isn't learnt calls this baseline, at this NFE, at the same levels."""
    rows = []
    for _, group in numbers.groupby(["baseline", "nfe"], sort=True):
        schedules = {entrant: lines["u"].to_numpy() for entrant, lines in group.groupby("entrant")}
        first = group.drop_duplicates("entrant")
        fixed = first.loc[(first["accelerator"] == "none") & (first["order"] != 0), "entrant"]
        alone = {e for e, u in schedules.items() if not any(same(u, schedules[f]) for f in fixed)}
        rows.append(group.assign(own=group["entrant"].isin(alone)))
    return pd.concat(rows) if rows else numbers.assign(own=False)


def same(a: np.ndarray, b: np.ndarray, tolerance: float = SAME) -> bool:
    """Whether two schedules in u = sigma / (alpha + sigma) call at the same sigma / alpha, up to a small share."""
    return len(a) == len(b) and bool(np.allclose(np.log(ratio(a)), np.log(ratio(b)), rtol=0, atol=tolerance))


def ratio(u: np.ndarray) -> np.ndarray:
    """sigma / alpha of u = sigma / (alpha + sigma), within what is drawn."""
    with np.errstate(divide="ignore"):
        return np.clip(u / (1 - u), *REACH)


def _levels(points: pd.DataFrame, results: Path) -> pd.DataFrame:
    """One row a network call: entrant, baseline, accelerator, solver, its order, nfe, train_seed, call, u."""
    rows = []
    known = registry.of_kind("solver")
    keys = ["entrant", "baseline", "accelerator", "solver", "nfe", "train_seed"]
    for _, group in points[["dataset", "kind", *keys]].drop_duplicates().groupby("entrant", sort=True):
        point = group.iloc[0].to_dict() | {"train_seed": int(group["train_seed"].iloc[0])}
        levels = _recorded(entrant_file(results, "scores", point, ".json"))
        order = known[point["solver"]].order if point["solver"] in known else math.nan
        for nfe in group["nfe"]:
            head = {key: point[key] for key in keys} | {"nfe": nfe, "order": order}
            rows += [head | {"call": i, "u": u} for i, u in enumerate(levels.get(nfe, []), 1)]
    return pd.DataFrame(rows, columns=[*keys, "order", "call", "u"])


def _recorded(path: Path) -> dict[int, list[float]]:
    """Levels by NFE; none in results of an older version."""
    try:
        points = json.loads(path.read_text()).get("points", [])
    except (OSError, ValueError):
        return {}
    return {point["nfe"]: point.get("levels") or [] for point in points}


def _panel(axis: Axes, rows: pd.DataFrame, plain: str) -> pd.DataFrame:
    """Draw a panel; returns the rows of what is emphasised."""
    reference = rows[(rows["solver"] == plain) & (rows["accelerator"] == "none")]
    chosen = rows[rows["own"] & rows["entrant"].isin(_distinct(rows[rows["own"]]))]
    for entrant, line in rows.groupby("entrant", sort=True):
        if entrant not in set(chosen["entrant"]) | set(reference["entrant"]):
            axis.plot(line["call"], ratio(line["u"].to_numpy()), zorder=2, **OTHER)
    for _, line in pd.concat([reference, chosen]).groupby("entrant", sort=True):
        look = palette.line(line["solver"].iloc[0], line["accelerator"].iloc[0])
        axis.plot(line["call"], ratio(line["u"].to_numpy()), zorder=4, **look)
    axis.set_yscale("log")
    axis.set_ylim(REACH[0] / 1.5, REACH[1] * 1.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, which="major")
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.tick_params(colors=INK, labelsize=7.5)
    return pd.concat([reference, chosen])


def _distinct(rows: pd.DataFrame) -> list[str]:
    """Entrants of a panel to emphasise, at most `emphasis.MOST`: learnt solvers, then accelerators that bring a grid.

    Of an accelerator's entrants with one schedule the first stands for all; what a learnt solver adds to an
    accelerator's is left out.
    """
    kept: dict[str, tuple[str, np.ndarray]] = {}
    rows = rows[(rows["accelerator"] == "none") | (rows["order"] != 0)]
    rows = rows.assign(fitted=rows["accelerator"].replace("none", ""))
    for entrant, line in rows.sort_values(["fitted", "entrant", "call"]).groupby("entrant", sort=False):
        accelerator, u = line["accelerator"].iloc[0], line["u"].to_numpy()
        if accelerator == "none" or not any(a == accelerator and same(u, v) for a, v in kept.values()):
            kept[entrant] = accelerator, u
    return list(kept)[: emphasis.MOST]
