"""Whether what a study wants judged can be: checked before anything starts."""

from __future__ import annotations

from pathlib import Path

from evaluation.extractors import EXTRACTORS
from evaluation.metrics import METRICS, in_groups
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.plan import Plan
from fewstep.suggest import unknown


def check(plan: Plan) -> None:
    """Raises UserError for a primary metric that isn't computed or is no distance, and for an absent reference."""
    for dataset, section in plan.study.datasets.items():
        where, primary, computed = f"config: datasets.{dataset}", plan.primary(dataset), metrics_of(plan, dataset)
        if primary not in computed:
            raise UserError(f"{where}.primary: {unknown('metric', primary, computed)} (by its extractors and metrics)")
        if METRICS[primary].higher_is_better:
            raise UserError(f"{where}.primary: {primary} grows with quality, and ranks go from the lowest value up")
        for name, chosen in (section.extractors or {}).items():
            if chosen.reference and not Path(chosen.reference).is_file():
                raise UserError(f"{where}.extractors.{name}.reference: {chosen.reference} does not exist")


def metrics_of(plan: Plan, dataset: str) -> list[str]:
    """The metrics that a study computes of a dataset's samples."""
    facts = DATASETS[dataset]
    if facts.exact:
        return ["ode_rmse"]
    if facts.family != "image":
        return ["w2", "sliced_w2", "ode_rmse"]
    groups = [in_groups(name, EXTRACTORS[name]) for name in plan.extractors(dataset)]
    return [metric for of in groups for group in plan.section(dataset).metrics for metric in of[group]] + ["ode_rmse"]
