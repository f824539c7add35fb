"""The judges' side of `fewstep.jobs`: a model's reference runs the method's code, so it runs in a worker too."""

from __future__ import annotations

from typing import Any

from fewstep.facts import DATASETS
from fewstep.files import write_json
from fewstep.headers import save_failure
from fewstep.jobs import run_stage, state_folder
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.plan import Fitted, Plan


def reference(plan: Plan, layout: Layout, fitted: Fitted, threads: int) -> None:
    """Converged ODE solution, curvature and paths of one model; its failure is recorded."""
    parts = (fitted.dataset, f"seed{fitted.seed}", fitted.model)
    with state_folder(layout, "reference", parts, Keys(plan).reference(fitted)) as folder:
        stage = "evaluation.stages.reference"
        outcome = run_stage(plan, layout, stage, fitted, parts, folder, threads, model=fitted.model)
        if not outcome.ok:
            write_failure(layout, fitted, outcome.status, outcome.reason)


def describe(fitted: Fitted) -> dict[str, Any]:
    """The keys that tell which model a reference belongs to."""
    keys = {"baseline": fitted.baseline, "accelerator": fitted.accelerator, "model": fitted.model}
    return {"dataset": fitted.dataset, "family": DATASETS[fitted.dataset].family, "train_seed": fitted.seed, **keys}


def write_failure(layout: Layout, fitted: Fitted, status: str, reason: str) -> None:
    """A reference that could not be made still has both its files."""
    at = (fitted.dataset, fitted.seed, fitted.model)
    save_failure(layout.reference(*at, ".safetensors"), status, reason, {})
    empty = {"metrics": [], "fit": {}, "provenance": {}}
    write_json(layout.reference(*at), describe(fitted) | empty | {"status": status, "reason": reason})
