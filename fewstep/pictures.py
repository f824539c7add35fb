"""Which pictures a dataset has, so that the DAG can declare them."""

from __future__ import annotations

from pathlib import Path

from fewstep import registry
from fewstep.facts import DATASETS
from fewstep.layout import Layout
from fewstep.plan import Entrant, Plan

RANKED = (3, 10)  # the NFEs that a ranking covers, both ends among them


def pictures(plan: Plan, layout: Layout, dataset: str) -> list[Path]:
    """PNG files of a dataset's figures; grids are drawn at the smallest and the middle NFE."""
    entrants = [e for e in plan.entrants if e.fitted.dataset == dataset and not e.control]
    kinds = ["quality_vs_nfe", "quality_vs_seconds", "curvature"]
    kinds += [] if DATASETS[dataset].exact else ["quality_vs_gflop", "quality_vs_total_cost", "training_curves"]
    kinds += ["ranking"] if _rivals(entrants) else []
    kinds += ["schedules"] if any(_learns(e) for e in entrants) else []
    nfes = sorted({n for e in entrants for n in e.nfes})
    if nfes and DATASETS[dataset].family == "image":
        kinds += [f"sample_grid_nfe{nfe}" for nfe in sorted({nfes[0], nfes[(len(nfes) - 1) // 2]})]
        kinds += ["trajectories_pca"]
    elif nfes and DATASETS[dataset].shape == (2,):
        kinds += [f"samples_2d_nfe{nfe}" for nfe in sorted({nfes[0], nfes[(len(nfes) - 1) // 2]})]
        kinds += ["trajectories_2d"]
    return [layout.root / "figures" / f"{dataset}_{kind}.png" for kind in kinds]


def _learns(entrant: Entrant) -> bool:
    """Whether the entrant's rule is learnt for each NFE, and so its schedule may be."""
    solvers = registry.of_kind("solver")
    return entrant.solver in solvers and solvers[entrant.solver].order == 0


def _rivals(entrants: list[Entrant]) -> bool:
    """Whether some model has more than one solver at the NFEs that are ranked."""
    solvers: dict[str, set[str]] = {}
    for entrant in entrants:
        if any(RANKED[0] <= n <= RANKED[1] for n in entrant.nfes):
            solvers.setdefault(entrant.model, set()).add(entrant.solver)
    return any(len(names) > 1 for names in solvers.values())
