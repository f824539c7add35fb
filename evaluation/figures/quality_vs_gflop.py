"""Quality against GFLOP per sample, where baselines with networks of different sizes compare."""

from pathlib import Path

import pandas as pd

from evaluation.figures.quality import Cost, panels

GFLOP = Cost(
    "gflop_per_sample",
    "GFLOP per sample",
    "against the GFLOP of a sample's network calls (matrix products and convolutions)",
)


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_quality_vs_gflop`; nothing where the field is exact and there is no network to count."""
    return panels(dataset, board, results, GFLOP, "quality_vs_gflop")
