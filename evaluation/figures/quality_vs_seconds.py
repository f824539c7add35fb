"""Quality against measured seconds per sample, where a helper network's cost shows that the NFE leaves out."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import EngFormatter

from evaluation.figures.quality import Cost, panels

SECONDS = Cost(
    "seconds_per_sample",
    "time per sample",
    "against measured seconds per sample, on the device and batch size that the provenance names",
    EngFormatter(unit="s"),
    digits=2,
)


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_quality_vs_seconds`."""
    return panels(dataset, board, results, SECONDS, "quality_vs_seconds")
