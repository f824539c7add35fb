"""Starts a stage's worker and turns its end into the declared output: a result, or a typed failure."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fewstep.errors import OUT_OF_MEMORY, TIMEOUT, UserError
from fewstep.facts import DATASETS
from fewstep.files import digest, read_json, write_json
from fewstep.gathering import gather
from fewstep.headers import read_header, save_failure
from fewstep.keys import Keys
from fewstep.layout import BEAT, KEEP, Layout, point_file
from fewstep.pairset import PairSet
from fewstep.plan import Entrant, Fitted, Plan
from fewstep.supervise import USER_ERROR, Outcome, run_worker


@contextlib.contextmanager
def state_folder(layout: Layout, stage: str, parts: tuple[str, ...], key: str) -> Iterator[Path]:
    """The job's own state folder, locked. What other settings left behind is removed, and the folder too at the end,
    unless `keep` was written there: a job that ran out of time or memory can go on once it is given more.
    """
    parent = layout.state(stage, *parts)
    parent.mkdir(parents=True, exist_ok=True)
    with _alone(parent):
        for other in parent.iterdir():
            if other.is_dir() and other.name != key:
                shutil.rmtree(other)
        folder = parent / key
        folder.mkdir(exist_ok=True)
        (folder / KEEP).unlink(missing_ok=True)
        yield folder
        if not (folder / KEEP).exists():
            shutil.rmtree(folder)


def begun_with(layout: Layout, key: str, dataset: str, upstream: list[Fitted]) -> str:
    """A job's key with the images and models that it builds on: a state begun with others must not be gone on with."""
    if DATASETS[dataset].real:
        header = read_header(layout.data(dataset))
        key = digest([key, header.get("sha256"), header.get("images_of_label")])
    for fitted in upstream:
        header = read_header(layout.model(fitted.dataset, fitted.seed, fitted.model))
        key = digest([key, header.get("key"), header.get("info", {}).get("weights_sha256")])
    return key


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; say so if another process, e.g. one that a killed run left behind, has it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{folder}: another process is at this job; waiting for it to end", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def run_stage(
    plan: Plan,
    layout: Layout,
    stage: str,
    fitted: Fitted,
    parts: tuple[str, ...],
    folder: Path,
    threads: int,
    *,
    limit: float | None = None,
    beat: Path | None = None,
    **arguments: Any,
) -> Outcome:
    """Run module `stage` in a worker. Raises UserError for bad input, of which nothing may be recorded."""
    write_json(folder / "study.json", plan.study.model_dump())
    arguments |= {
        "study": str(folder / "study.json"),
        "results": str(layout.root),
        "dataset": fitted.dataset,
        "seed": fitted.seed,
        "state_dir": str(folder),
        "threads": threads,
    }
    outcome = run_worker(stage, arguments, folder, limit or plan.study.limits.fit_minutes * 60, beat)
    if outcome.status == USER_ERROR:
        raise UserError(outcome.reason)
    if not outcome.ok:
        print(f"{'/'.join(parts)}: {outcome.status}: {outcome.reason}", file=sys.stderr)
    return outcome


def fit(plan: Plan, layout: Layout, fitted: Fitted, threads: int) -> None:
    """Train or fit one model; on failure its file holds the status instead of weights."""
    parts = (fitted.dataset, f"seed{fitted.seed}", fitted.model)
    key = Keys(plan).fit(fitted)
    with state_folder(layout, "fit", parts, begun_with(layout, key, fitted.dataset, fitted.upstream)) as folder:
        stage = "fewstep.stages.fit"
        outcome = run_stage(plan, layout, stage, fitted, parts, folder, threads, model=fitted.model)
        if not outcome.ok:
            header = {"dataset": fitted.dataset, "seed": fitted.seed, "model": fitted.model, "key": key}
            file = layout.model(fitted.dataset, fitted.seed, fitted.model)
            save_failure(file, outcome.status, outcome.reason, header)
            if outcome.status in (TIMEOUT, OUT_OF_MEMORY):
                (folder / KEEP).touch()


def pairs(plan: Plan, layout: Layout, teacher: Fitted, wanted: PairSet, threads: int) -> None:
    """Draw pairs from a model's ODE; on failure their manifest holds the status."""
    parts = (teacher.dataset, f"seed{teacher.seed}", teacher.model, wanted.series)
    key = Keys(plan).pairs(teacher, wanted)
    with state_folder(layout, "pairs", parts, begun_with(layout, key, teacher.dataset, [teacher])) as folder:
        stage = "fewstep.stages.pairs"
        arguments = {"model": teacher.model, "pairs": wanted.name}
        outcome = run_stage(plan, layout, stage, teacher, parts, folder, threads, **arguments)
        if not outcome.ok:
            record = {"status": outcome.status, "reason": outcome.reason, "key": key}
            write_json(layout.pairs(teacher.dataset, teacher.seed, teacher.model, wanted.name), record)


def sample(
    plan: Plan, layout: Layout, entrant: Entrant, threads: int, output: Path | None = None, part: str = ""
) -> None:
    """Sample an entrant at all its NFE; a point that fails, hangs or crashes is a row of its own.

    Only a part ("2of3") of the samples, where one is named; without, what jobs of their own have drawn is put together.
    """
    fitted = entrant.fitted
    place = (fitted.dataset, fitted.seed, entrant.model, entrant.solver)
    output = output or (layout.part(*place, part) if part else layout.samples(*place))
    if plan.parts(entrant) and not part:
        gather(plan, layout, entrant, output)
        return
    parts = (fitted.dataset, f"seed{fitted.seed}", entrant.model, entrant.solver, *([part] if part else []))
    options = {"model": entrant.model, "solver": entrant.solver, "output": str(output), "part": part}
    options["limit"] = plan.study.limits.point_minutes * 60
    key = begun_with(layout, Keys(plan).sample(entrant), fitted.dataset, plan.sampled_from(entrant))
    with state_folder(layout, "part" if part else "sample", parts, key) as folder:
        points = {nfe: point_file(folder, nfe) for nfe in entrant.nfes}
        beat = folder / BEAT
        while True:
            beat.unlink(missing_ok=True)
            stage = "fewstep.stages.sample"
            outcome = run_stage(plan, layout, stage, fitted, parts, folder, threads, beat=beat, **options)
            if outcome.ok:
                return
            missing = [nfe for nfe, file in points.items() if not file.exists()]
            if not missing:
                raise UserError(f"{entrant.name}: the samples could not be gathered: {outcome.reason}")
            at = read_json(beat)["nfe"] if beat.exists() else None  # None: while the solver was fitted
            for nfe in missing if at is None else [at]:
                save_failure(points[nfe], outcome.status, outcome.reason, {})
