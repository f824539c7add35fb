"""All figures of a study: each a PNG, an SVG and a CSV of the numbers that it shows."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from evaluation import records as recs
from evaluation.figures import (
    codes,
    curvature,
    entrant_grids,
    paces,
    quality_vs_gflop,
    quality_vs_nfe,
    quality_vs_seconds,
    quality_vs_total_cost,
    ranking,
    sample_grid,
    samples_2d,
    schedules,
    training_curves,
    trajectories_2d,
    trajectories_pca,
)
from evaluation.figures.style import new_figure, save
from evaluation.leaderboard import leaderboard

# In the order in which a page shows them. A kind draws nothing for a dataset that it does not suit.
KINDS = {
    "quality_vs_nfe": quality_vs_nfe,
    "ranking": ranking,
    "quality_vs_seconds": quality_vs_seconds,
    "quality_vs_gflop": quality_vs_gflop,
    "quality_vs_total_cost": quality_vs_total_cost,
    "curvature": curvature,
    "trajectories_2d": trajectories_2d,
    "trajectories_pca": trajectories_pca,
    "schedules": schedules,
    "sample_grid": sample_grid,
    "samples_2d": samples_2d,
    "codes": codes,
    "paces": paces,
    "training_curves": training_curves,
    "entrant_grids": entrant_grids,
}


def make_all(results: Path, only: str | None = None) -> list[Path]:
    """Draw every figure of every dataset, or of the dataset `only`, below `results/figures`; return the files."""
    records = recs.load(results)
    board = leaderboard(records)
    paths: list[Path] = []
    for dataset in sorted(board["dataset"].unique()):
        if only in (None, dataset):
            for kind in KINDS.values():
                paths += kind.draw(dataset, board, records, results)
    return paths


def remove_stale(results: Path, dataset: str, kept: Iterable[Path], datasets: Iterable[str]) -> None:
    """Remove a dataset's pictures that are not among `kept`: they show an earlier study.

    datasets: all of the study; the files of one whose name begins with this one's stay.
    """
    folder, kept = results / "figures", set(kept)
    longer = tuple(f"{other}_" for other in datasets if other.startswith(f"{dataset}_"))
    old = {file for file in folder.glob(f"{dataset}_*.*") if not (longer and file.name.startswith(longer))}
    old |= set((folder / "entrants" / dataset).rglob("*.png"))
    for file in old - kept:
        file.unlink()


def placeholder(picture: Path, text: str) -> list[Path]:
    """A picture that says why there is none, in place of a declared one."""
    figure = new_figure(6, 1)
    figure.text(0.5, 0.5, text, ha="center", va="center", color="#666666")
    return save(figure, picture.parents[1], picture.stem, text, pd.DataFrame({"note": [text]}))


def middle_nfe(board: pd.DataFrame) -> int | None:
    """The middle one of the NFEs that entrants are sampled at (the lower of two), or None without entrants."""
    nfes = sorted(board.loc[board["kind"] == "entrant", "nfe"].unique())
    return int(nfes[(len(nfes) - 1) // 2]) if nfes else None
