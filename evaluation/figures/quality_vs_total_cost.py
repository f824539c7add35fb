"""Quality against all the seconds that an entrant adds to its baseline: its fits, and then many samples."""

from pathlib import Path

import pandas as pd

from evaluation.figures.quality import Cost, panels
from evaluation.records import model_name
from fewstep import registry

SAMPLES = 50_000  # as many as an FID is customarily computed from
TOTAL = Cost(
    "total_seconds",
    f"fit and {SAMPLES:,} samples, seconds",
    f"against the seconds of all that is fitted on the baseline (the accelerator; the solver, for all its NFE) and of "
    f"drawing {SAMPLES:,} samples. The baseline's own training is the same for all that builds on it and left out",
    extra=("accelerator_fit_seconds", "solver_fit_seconds", "samples"),
    digits=2,
)


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_quality_vs_total_cost`; nothing where the field is exact and no network takes the time."""
    if not (board.loc[board["dataset"] == dataset, "gflop_per_sample"] > 0).any():
        return []
    return panels(dataset, with_total(board, records), results, TOTAL, "quality_vs_total_cost")


def with_total(board: pd.DataFrame, records: pd.DataFrame, samples: int = SAMPLES) -> pd.DataFrame:
    """The board with `total_seconds` = accelerator_fit_seconds + solver_fit_seconds + samples * seconds_per_sample.

    A fit that an entrant doesn't have costs 0 s; one whose seconds aren't known leaves the total unknown (NaN).
    """
    fits = records[records["kind"] == "reference"].drop_duplicates(["dataset", "model", "train_seed"])
    seconds = fits.groupby(["dataset", "model"])["fit_seconds"].mean().to_dict()
    keys = board[["dataset", "baseline", "accelerator"]].itertuples(index=False)
    fitted = [0.0 if a in ("none", "") else seconds.get((d, model_name(b, a)), float("nan")) for d, b, a in keys]
    known = registry.of_kind("solver")
    learns = board["solver"].map(lambda name: name in known and known[name].order == 0)
    solver_fit = board["solver_fit_seconds"].where(board["solver_fit_seconds"].notna() | learns, 0.0)
    board = board.assign(accelerator_fit_seconds=fitted, solver_fit_seconds=solver_fit, samples=samples)
    drawing = samples * board["seconds_per_sample"]
    return board.assign(total_seconds=board["accelerator_fit_seconds"] + board["solver_fit_seconds"] + drawing)
