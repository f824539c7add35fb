"""Quality against NFE."""

from pathlib import Path

import pandas as pd

from evaluation.figures.quality import Cost, panels

NFE = Cost("nfe", "NFE (network calls per sample)", "against the number of network calls per sample")


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Draw `<dataset>_quality_vs_nfe`."""
    return panels(dataset, board, results, NFE, "quality_vs_nfe")
