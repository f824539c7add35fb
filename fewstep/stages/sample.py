"""Stage: sample one entrant, or control, at each of its NFE, or a part of its samples.

A solver that learns from the field is fitted first. Each NFE is a file in the state folder until all are there; so a
killed job resumes, and a point that hangs costs itself alone.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep import distributed, registry
from fewstep.calibration import bind
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.errors import OK, FewstepError, Upstream, WriteError, one_line, status_of
from fewstep.facts import DATASETS
from fewstep.field import Field
from fewstep.files import write_json
from fewstep.headers import read_header
from fewstep.keys import Keys
from fewstep.layout import BEAT, LEARNT, Layout, piece_file, point_file
from fewstep.plan import OWN, Entrant, Plan
from fewstep.processes import on_devices
from fewstep.provenance import origin, provenance
from fewstep.seeds import SampleRng, latents
from fewstep.stages.common import dataset_of, layout_of, load_fitted, load_plan, set_threads
from fewstep.stages.draw import Draw, batches_of
from fewstep.stages.learn import learnt


def run(
    study: str,
    results: str,
    dataset: str,
    seed: int,
    model: str,
    solver: str,
    state_dir: str,
    threads: int,
    output: str,
    part: str = "",
) -> None:
    """Sample every NFE that has no file yet, then gather them into `output`; of a part ("2of3") its batches alone."""
    set_threads(threads)
    plan, layout = load_plan(study), layout_of(results)
    entrant, section = plan.entrant(dataset, seed, model, solver), plan.section(dataset)
    state, batches = Path(state_dir), batches_of(section, part)
    shared = layout.part(dataset, seed, model, solver, f"fitted-{state.name}") if part else None
    with on_devices(state, section.compute.gpus) as device:
        missing = distributed.told([nfe for nfe in entrant.nfes if not point_file(state, nfe).exists()])
        # Where all points are there, nothing of the method runs again: it may be what failed.
        draw = _sampler(plan, entrant, layout, device, state, shared) if missing else None
        for nfe in missing:
            if distributed.is_first():
                write_json(state / BEAT, {"nfe": nfe})
            tensors, row = _point(draw, nfe, batches, state)
            if distributed.is_first():
                save_tensors(point_file(state, nfe), tensors, row)
                for piece in state.glob(piece_file(state, nfe, "*").name):
                    piece.unlink()
        if distributed.is_first():
            header = {"entrant": entrant.name, "label": entrant.label, "key": Keys(plan).sample(entrant)}
            header |= {"part": part} if part else {}
            header["provenance"] = provenance(plan.study, device) | _weights(plan, layout, entrant)
            _gather(state, entrant, Path(output), header)


def _weights(plan: Plan, layout: Layout, entrant: Entrant) -> dict[str, Any]:
    """Which weights the samples come from, and the solver's steps if from others; nothing for a control."""
    models = plan.sampled_from(entrant)
    infos = [read_header(layout.model(f.dataset, f.seed, f.model)).get("info", {}) for f in models]
    hashes = (info.get("weights_sha256", "") for info in infos)
    return dict(zip(("weights_sha256", "solver_weights_sha256"), hashes, strict=False)) | (
        origin(infos[0]) if infos else {}
    )


def _gather(state: Path, entrant: Entrant, output: Path, header: dict[str, Any]) -> None:
    fitted = load_tensors(state / LEARNT)[0] if (state / LEARNT).exists() else {}
    tensors, rows = {f"fitted.{name}": tensor for name, tensor in fitted.items()}, []
    for nfe in entrant.nfes:
        point, row = load_tensors(point_file(state, nfe))
        rows.append({"nfe": nfe, **row})
        tensors |= {f"{name}nfe{nfe}": tensor for name, tensor in point.items()}
    save_tensors(output, tensors, {**header, "points": rows})


def _sampler(
    plan: Plan, entrant: Entrant, layout: Layout, device: torch.device, state: Path, shared: Path | None
) -> Draw | Callable:
    fitted = entrant.fitted
    section, shape = plan.section(fitted.dataset), DATASETS[fitted.dataset].shape

    def start(indices: range) -> Tensor:
        return latents(fitted.dataset, fitted.seed, indices, shape).to(device)

    if entrant.control:
        method = registry.get(entrant.solver, "control")
        dataset = dataset_of(plan, layout, fitted.dataset)

        def control(indices: range, z: Tensor, nfe: int) -> tuple[Tensor, None]:
            return method.verb("sample")(dataset, z, SampleRng(dataset.name, fitted.seed, indices)), None

        return Draw(section, dataset.shape, start, control)
    try:
        loaded = load_fitted(layout, fitted, device)
        method = loaded.accelerator if entrant.solver == OWN else registry.get(entrant.solver, "solver")
        other = plan.learnt_on(entrant)
        on = loaded if other == fitted else load_fitted(layout, other, device)
        found = learnt(plan, layout, entrant, on, method, state, shared)
    except Upstream as error:
        return _Refused(error)
    sample = bind(method, plan.params(fitted.dataset, method), found)

    def solve(indices: range, z: Tensor, nfe: int) -> tuple[Tensor, Field]:
        field = loaded.field(indices, z, budget=nfe)
        return sample(field, z, nfe), field

    if device.type == "cuda":  # the first call loads kernels; that is no method's cost
        z = start(range(min(section.batch, section.n_samples)))
        field = loaded.field(range(len(z)), z)
        field(field.start(z, field.path.t_max), field.path.t_max)
    draw = Draw(section, shape, start, solve, method.nfe.adaptive)
    draw.flops_per_call, draw.helper_flops = loaded.state.info["flops_per_call"], loaded.state.info["helper_flops"]
    if found:
        draw.fit_cost = {"fit_seconds": found.info["seconds"], "fit_teacher_calls": found.info["calls"]}
    return draw


class _Refused:
    """Stands in for a sampler whose model or solver was never fitted: every point gets that reason."""

    def __init__(self, error: Upstream):
        self.error = error

    def __call__(self, nfe: int, batches: range, state: Path):
        raise self.error


def _point(draw: Callable, nfe: int, batches: range, state: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and row of one NFE; whatever a method raises becomes a row.

    Several processes tell each other what a method raised; anything else is the loss of one, which ends the job.
    """
    try:
        tensors, row = draw(nfe, batches, state)
    except WriteError:
        raise
    except Exception as error:
        if distributed.size() > 1 and not isinstance(error, FewstepError):
            raise
        if not isinstance(error, Upstream):
            traceback.print_exc()
        return {}, {"status": status_of(error), "reason": one_line(error)}
    return tensors, {"status": OK, "reason": "", **row}
