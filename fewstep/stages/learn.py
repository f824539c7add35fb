"""What a solver that learns from the field learns, before it samples."""

from __future__ import annotations

import os
import traceback
from functools import partial
from pathlib import Path

from fewstep import distributed
from fewstep.calibration import Calibration, calibrate
from fewstep.checkpoints import State, load_tensors, save_tensors
from fewstep.errors import Upstream, WriteError, one_line, status_of
from fewstep.files import write_bytes, write_json
from fewstep.inner import plain
from fewstep.layout import BEAT, LEARNT, Layout
from fewstep.plan import Entrant, Plan
from fewstep.registry import Method
from fewstep.stages.common import Loaded, dataset_of


def learnt(
    plan: Plan, layout: Layout, entrant: Entrant, loaded: Loaded, method: Method, state: Path, shared: Path | None
) -> State | None:
    """What a solver with a `fit` learns from `loaded`, for all its NFE. Raises Upstream when the fit fails.

    shared: the file by which several jobs agree, where each draws a part of the samples: those that find none fit the
    solver, and what the first to end has found is what all of them use.
    """
    if method.kind != "solver" or not method.learns:
        return None
    file, failure = state / LEARNT, None
    if distributed.is_first():  # a fit is one process's work; the others wait for it
        try:
            if shared and shared.exists():
                write_bytes(file, shared.read_bytes())
            elif not file.exists():
                found = calibrate(method, _task(plan, layout, entrant, loaded, method, state))
                save_tensors(file, found.tensors, found.info)
            if shared:
                _share(file, shared)
        except WriteError:
            raise
        except Exception as error:
            traceback.print_exc()
            failure = (f"{method.id} could not be fitted: {one_line(error)}", status_of(error))
    if failure := distributed.told(failure):
        raise Upstream(*failure)
    tensors, info = load_tensors(file)
    return State(None, {}, tensors, info)


def _task(plan: Plan, layout: Layout, entrant: Entrant, loaded: Loaded, method: Method, state: Path) -> Calibration:
    fitted = loaded.fitted
    return Calibration(
        dataset=dataset_of(plan, layout, fitted.dataset),
        params=plan.params(fitted.dataset, method),
        nfes=entrant.nfes,
        axes=("calibration", fitted.dataset, fitted.model, method.id, fitted.seed),
        make_field=partial(loaded.field, purpose="calibration"),
        solver_of=plain,
        state_dir=state,
        device=loaded.device,
        on_progress=lambda: write_json(state / BEAT, {"nfe": None}),
    )


def _share(file: Path, shared: Path) -> None:
    """Make `file` the shared one if there is none, else a copy of it; what other settings left behind is removed."""
    shared.parent.mkdir(parents=True, exist_ok=True)
    for other in shared.parent.glob(f"{shared.name.split('-')[0]}-*"):
        if other != shared:
            other.unlink(missing_ok=True)
    try:
        os.link(file, shared)  # fails, in one step, where another was first
    except FileExistsError:
        write_bytes(file, shared.read_bytes())
    except OSError:  # no hard links here; of two that end at the same moment the later one counts
        write_bytes(shared, file.read_bytes())
