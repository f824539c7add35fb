"""Ranking of a model's solvers at few calls: a panel a model, a row a solver, a column an NFE."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import colormaps, colors
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from evaluation.figures.multiples import pack
from evaluation.figures.style import INK, MAX_HEIGHT, MAX_WIDTH, MUTED, new_figure, save, seeds_text
from evaluation.leaderboard import rounded
from evaluation.records import model_name
from fewstep.pictures import RANKED

COLOURS = "viridis_r"  # from light, the best, to dark: in grey print as in colour
SCALES = (3, 10, 30, 100, 300, 1000)  # the darkest colour is one of these times the best
ROW, HEAD, FOOT = 0.155, 0.52, 0.72  # inches: of a solver, above a panel, below all panels
LETTER, MEAN = 0.062, 0.4  # of a solver's name or a value, and of the column of mean ranks
SMALL = 7  # points
TOP = 3  # ranks in bold


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_ranking`; models with a single solver have nothing to rank and no panel."""
    rows = board[(board["dataset"] == dataset) & (board["kind"] == "entrant")]
    numbers = table(rows)
    names = [name for name, group in numbers.groupby("model", sort=False) if group["solver"].nunique() > 1]
    if not names or not (rows["status"] == "ok").any():
        return []
    figure = _figure({name: numbers[numbers["model"] == name] for name in names}, rows["metric"].iloc[0])
    caption = (
        f"{rows['metric'].iloc[0]} on {dataset} at few calls, lower is better: each model's solvers, sorted by their "
        "mean rank over the NFEs that they can make (on the right). A failed point counts as the last. "
        f"The colour is the ratio to the panel's best at that NFE. {seeds_text(rows)}."
    )
    return save(figure, results, f"{dataset}_ranking", caption, numbers)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a point of an entrant at the NFEs that are ranked; panels, their solvers and NFEs in drawing order.

    `rank` and `ratio_to_best` are among the solvers of one model at one NFE, ties share the better rank; both are
    missing where the status isn't ok. `mean_rank` is over a solver's NFEs: a failed point takes the last place, a
    skipped one, as one that was never planned, takes none.
    """
    rows = rows[rows["nfe"].between(*RANKED)]
    rows = rows.assign(
        model=[model_name(b, a) for b, a in rows[["baseline", "accelerator"]].values], value=rows["mean"]
    )
    key = rows["mean"].map(rounded).where(rows["status"] == "ok")
    column = key.groupby([rows["model"], rows["nfe"]])
    best = column.transform("min")
    rows = rows.assign(rank=column.rank(method="min"), ratio_to_best=(key / best).where(best > 0))
    place = rows["rank"].where(key.notna(), column.transform("count") + 1).where(rows["status"] != "skipped")
    mean_rank = place.groupby([rows["model"], rows["solver"]]).transform("mean")
    rows = rows.assign(rank=rows["rank"].astype("Int64"), mean_rank=mean_rank)
    # A fitted model comes after all that are not.
    rows = rows.assign(_fitted=rows["accelerator"].replace("none", ""), _place=mean_rank.fillna(math.inf))
    rows = rows.sort_values(["_fitted", "baseline", "_place", "solver", "nfe"], kind="stable").reset_index(drop=True)
    names = ["dataset", "model", "solver", "nfe", "value", "rank", "ratio_to_best", "status", "metric", "mean_rank"]
    return rows[names]


def short(value: float) -> str:
    """Two significant digits in at most six characters: 0.0012, 12, 1200, 1.2e-4."""
    value = float(f"{value:.1e}")
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -3 <= exponent <= 4:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{max(0, 1 - exponent)}f}"


def _figure(panels: dict[str, pd.DataFrame], metric: str) -> Figure:
    """All panels packed into as many columns as make the print largest on a page, every cell of the same size."""
    points = pd.concat(panels.values())
    nfes = sorted(set(points["nfe"]))
    tall = [HEAD + rows["solver"].nunique() * ROW for rows in panels.values()]
    left = 0.12 + LETTER * points["solver"].str.len().max()
    longest = max(3, *points.loc[points["status"] == "ok", "value"].map(short).str.len(), 0)
    cells = len(nfes) * (0.08 + LETTER * longest)
    width = left + cells + MEAN

    def scale(across: int) -> float:
        """How large the print is on a page, upright or across; 1 is its own size."""
        wide, high = across * width, pack(tall, across)[1] + FOOT
        return max(min(1, MAX_WIDTH / wide, MAX_HEIGHT / high), min(1, MAX_HEIGHT / wide, MAX_WIDTH / high))

    across = max(range(1, len(tall) + 1), key=scale)
    places, height = pack(tall, across)
    wide, high = max(across * width, 6.5), height + FOOT
    figure = new_figure(wide, high, tallest=high)
    figure.set_layout_engine("none")  # everything here has its place in inches
    norm = colors.LogNorm(1, _darkest(points["ratio_to_best"]))
    for (column, top), deep, (model, rows) in zip(places, tall, panels.items(), strict=True):
        place = (column * width + left) / wide, (high - top - deep) / high, cells / wide, (deep - HEAD) / high
        _panel(figure.add_axes(place), model, rows, nfes, norm)
    _legend(figure, wide, high, norm, metric, set(points["status"]) - {"ok"})
    return figure


def _darkest(ratios: pd.Series) -> float:
    """The scale's end: nine of ten points lie within."""
    reach = ratios.quantile(0.9)
    return next((s for s in SCALES if s >= reach), SCALES[-1])


def _panel(axis: Axes, model: str, rows: pd.DataFrame, nfes: list[int], norm: colors.Normalize) -> None:
    solvers = list(dict.fromkeys(rows["solver"]))
    for row in rows.itertuples():
        _cell(axis, nfes.index(row.nfe), solvers.index(row.solver), row, norm)
    end = len(nfes) - 0.5
    for i, mean in enumerate(rows.groupby("solver", sort=False)["mean_rank"].first()):
        text = "" if pd.isna(mean) else f"{mean:.1f}"
        axis.annotate(text, (end, i), (4, 0), textcoords="offset points", fontsize=SMALL, color=INK, va="center")
    small = {"textcoords": "offset points", "fontsize": SMALL, "color": MUTED, "linespacing": 0.9}
    axis.annotate("mean\nrank", (end, -0.5), (4, 2), va="bottom", **small)
    axis.annotate("NFE", (-0.5, -0.5), (-3, 3.5), va="bottom", ha="right", **small)
    axis.annotate(
        model, (-0.5, -0.5), (0, 17), textcoords="offset points", fontsize=9, weight="bold", color=INK, va="bottom"
    )
    axis.set(xlim=(-0.5, end), ylim=(len(solvers) - 0.5, -0.5))
    axis.set_xticks(range(len(nfes)), map(str, nfes), fontsize=SMALL)
    axis.set_yticks(range(len(solvers)), solvers, fontsize=SMALL)
    axis.tick_params(length=0, pad=3, top=False, labeltop=True, labelbottom=False, colors=INK)
    axis.spines[:].set_visible(False)


def _cell(axis: Axes, x: int, y: int, row: Any, norm: colors.Normalize) -> None:
    """The value on the colour of its ratio; for a point that is not ok its letter on grey."""
    ok = row.status == "ok"
    face = "#f0f0f0" if not ok or pd.isna(row.ratio_to_best) else colormaps[COLOURS](float(norm(row.ratio_to_best)))
    axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=0.6))
    centred = {"ha": "center", "va": "center_baseline", "fontsize": SMALL}
    if not ok:
        axis.text(x, y, mark(row.status), color="#a02020", style="italic", **centred)
        return
    ink = "#000000" if _luminance(face) > 0.18 else "#ffffff"  # where both have the same contrast
    axis.text(x, y, short(row.value), color=ink, weight="bold" if row.rank <= TOP else "normal", **centred)


def mark(status: str) -> str:
    """One letter for a status that is not ok; the legend spells them out."""
    return status[:1].upper()


def _luminance(face: Any) -> float:
    """Relative luminance of a colour, from 0 to 1 (WCAG)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(face)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _legend(figure: Figure, wide: float, high: float, norm: colors.LogNorm, metric: str, statuses: set[str]) -> None:
    """Below all panels: the colour bar, and what the marks mean."""
    axis = figure.add_axes([0.2 / wide, 0.4 / high, 2.4 / wide, 0.11 / high])
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), cax=axis, orientation="horizontal", extend="max")
    bar.set_ticks([t for t in (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000) if t <= norm.vmax])
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0f}"))
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=SMALL, pad=1, length=2)
    bar.outline.set_visible(False)
    bar.set_label(f"{metric}, times the panel's best at that NFE", fontsize=7.5, labelpad=2)
    marks = ["bold: the three best", "no cell: the solver can't make that NFE"]
    marks += [", ".join(f"{mark(s)}: {s.replace('_', ' ')}" for s in sorted(statuses))] if statuses else []
    figure.text(3 / wide, 0.58 / high, "\n".join(marks), fontsize=7.5, color=INK, va="top", linespacing=1.4)
