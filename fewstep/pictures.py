"""Which pictures a dataset has, so that the DAG can declare them."""

from __future__ import annotations

from pathlib import Path

from fewstep.facts import DATASETS
from fewstep.layout import Layout
from fewstep.plan import Plan


def pictures(plan: Plan, layout: Layout, dataset: str) -> list[Path]:
    """PNG files of a dataset's figures; grids are drawn at the smallest and the middle NFE."""
    kinds = ["quality_vs_nfe", "quality_vs_seconds", "curvature"]
    nfes = sorted({n for e in plan.entrants if e.fitted.dataset == dataset and not e.control for n in e.nfes})
    if nfes and DATASETS[dataset].family == "image":
        kinds += [f"sample_grid_nfe{nfe}" for nfe in sorted({nfes[0], nfes[(len(nfes) - 1) // 2]})]
    elif nfes and DATASETS[dataset].shape == (2,):
        kinds += [f"samples_2d_nfe{nfes[(len(nfes) - 1) // 2]}", "trajectories_2d"]
    return [layout.root / "figures" / f"{dataset}_{kind}.png" for kind in kinds]
