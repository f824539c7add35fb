"""Quality against measured seconds per sample, where a helper network's cost shows that the NFE leaves out."""

from pathlib import Path

import pandas as pd

from evaluation.figures.quality_vs_nfe import panels
from evaluation.figures.style import Style


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path, style: Style) -> list[Path]:
    """Draw `<dataset>_quality_vs_seconds`."""
    caption = "against measured seconds per sample, on the device and batch size that the provenance names"
    return panels(dataset, board, results, style, x="seconds_per_sample", name="quality_vs_seconds", caption=caption)
