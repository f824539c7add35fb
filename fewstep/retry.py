"""Which files to remove so that the next run tries failed jobs again."""

from __future__ import annotations

from pathlib import Path

from fewstep.errors import OK
from fewstep.files import read_json
from fewstep.headers import read_header
from fewstep.layout import Layout
from fewstep.plan import Plan


def _failed(file: Path) -> bool:
    """Whether the file records a failure, of the whole job or of one of its points."""
    if not file.exists():
        return False
    header = read_header(file)
    return any(part.get("status", OK) != OK for part in (header, *header.get("points", ())))


def stale_files(plan: Plan, layout: Layout) -> list[Path]:
    """Outputs of failed jobs, files and folders, with what was made from them, up to the verdict.

    Snakemake doesn't make a missing file as long as all that is made from it is there.
    """
    files, remeasured = [], set()
    for fitted in plan.fitted:
        at = (fitted.dataset, fitted.seed, fitted.model)
        model, reference = layout.model(*at), layout.reference(*at, ".safetensors")
        if _failed(model):
            files.append(model)
        if _failed(model) or _failed(reference):
            files += [reference, layout.reference(*at)]
            remeasured.add(at)
    for teacher, pairs in plan.pairs:
        file = layout.pairs(teacher.dataset, teacher.seed, teacher.model, pairs.name)
        if file.exists() and read_json(file).get("status", OK) != OK:
            files.append(file)
    for entrant in plan.entrants:
        at = (entrant.fitted.dataset, entrant.fitted.seed, entrant.model)
        samples = layout.samples(*at, entrant.solver)
        parts = [layout.part(*at, entrant.solver, part) for part in plan.parts(entrant)]
        files += [file for file in parts if _failed(file)]
        if _failed(samples):
            files.append(samples)
        if _failed(samples) or at in remeasured:
            files.append(layout.scores(*at))
    for dataset in plan.study.datasets:  # a metric was skipped for want of weights
        lacking = [layout.statistics(dataset, name) for name in plan.extractors(dataset)]
        lacking = [file for file in lacking if _failed(file)]
        files += lacking
        if lacking:
            files += [
                layout.scores(dataset, e.fitted.seed, e.model) for e in plan.entrants if e.fitted.dataset == dataset
            ]
    if files:
        files += [layout.root / "leaderboard.csv", layout.root / "verdict.txt"]
    return [file for file in dict.fromkeys(files) if file.exists()]
