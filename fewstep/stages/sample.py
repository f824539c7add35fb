"""Stage: sample one entrant, or control, at each of its NFE.

A solver that learns from the field is fitted first. Each NFE is a file in the state folder until all are there; so a
killed job resumes, and a point that hangs costs itself alone.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep import data, registry
from fewstep.calibration import Calibration, bind, calibrate
from fewstep.checkpoints import State, load_tensors, save_tensors
from fewstep.config import DatasetStudy
from fewstep.device import lease
from fewstep.errors import OK, Diverged, FewstepError, Upstream, WriteError, one_line, status_of
from fewstep.facts import DATASETS
from fewstep.field import Field
from fewstep.files import write_json
from fewstep.headers import read_header
from fewstep.images import to_uint8
from fewstep.inner import plain
from fewstep.keys import Keys
from fewstep.layout import BEAT, LEARNT, Layout, point_file
from fewstep.plan import OWN, Entrant, Plan
from fewstep.provenance import provenance
from fewstep.registry import Method
from fewstep.seeds import SampleRng, latents
from fewstep.stages.common import Loaded, layout_of, load_fitted, load_plan, set_threads


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
) -> None:
    """Sample every NFE that has no file yet, then gather them into `output`."""
    set_threads(threads)
    plan = load_plan(study)
    entrant = plan.entrant(dataset, seed, model, solver)
    state = Path(state_dir)
    with lease(state) as device:
        missing = [nfe for nfe in entrant.nfes if not point_file(state, nfe).exists()]
        # Where all points are there, nothing of the method runs again: it may be what failed.
        draw = _sampler(plan, entrant, layout_of(results), device, state) if missing else None
        for nfe in missing:
            write_json(state / BEAT, {"nfe": nfe})
            tensors, row = _point(draw, nfe)
            save_tensors(point_file(state, nfe), tensors, row)
        header = {"entrant": entrant.name, "label": entrant.label, "key": Keys(plan).sample(entrant)}
        header["provenance"] = provenance(plan.study, device) | _weights(plan, layout_of(results), entrant)
    _gather(state, entrant, Path(output), header)


def _weights(plan: Plan, layout: Layout, entrant: Entrant) -> dict[str, Any]:
    """Which weights the samples come from, and the solver's steps if from others; nothing for a control."""
    models = plan.sampled_from(entrant)
    headers = (read_header(layout.model(f.dataset, f.seed, f.model)) for f in models)
    hashes = (header.get("info", {}).get("weights_sha256", "") for header in headers)
    return dict(zip(("weights_sha256", "solver_weights_sha256"), hashes, strict=False))


def _gather(state: Path, entrant: Entrant, output: Path, header: dict[str, Any]) -> None:
    learnt = load_tensors(state / LEARNT)[0] if (state / LEARNT).exists() else {}
    tensors, rows = {f"fitted.{name}": tensor for name, tensor in learnt.items()}, []
    for nfe in entrant.nfes:
        point, row = load_tensors(point_file(state, nfe))
        rows.append({"nfe": nfe, **row})
        tensors |= {f"{name}nfe{nfe}": tensor for name, tensor in point.items()}
    save_tensors(output, tensors, {**header, "points": rows})


class _Draw:
    """`draw(nfe)` gives all samples of one NFE, with what they cost; latents are drawn off the clock.

    batch gives the samples [B, ...] of some latents, and the field that was called for them (a control calls none).
    """

    def __init__(
        self,
        section: DatasetStudy,
        shape: tuple[int, ...],
        start: Callable[[range], Tensor],
        batch: Callable[[range, Tensor, int], tuple[Tensor, Field | None]],
        adaptive: bool = False,
    ):
        self.section, self.shape, self.start, self.batch, self.adaptive = section, shape, start, batch, adaptive
        self.flops_per_call = self.helper_flops = 0.0
        self.fit_cost: dict[str, float] = {}  # of a solver that learns from the field

    def __call__(self, nfe: int) -> tuple[Tensor, dict[str, Any]]:
        n = self.section.n_samples
        out, seconds, helpers, calls, levels = torch.empty(n, *self.shape), 0.0, 0.0, [], []
        for start in range(0, n, self.section.batch):
            indices = range(start, min(start + self.section.batch, n))
            z = self.start(indices)
            before = time.perf_counter()
            samples, field = self.batch(indices, z, nfe)
            if samples.is_cuda:
                torch.cuda.synchronize()
            seconds += time.perf_counter() - before
            helpers += field.made_in if field else 0.0
            if samples.shape != (len(indices), *self.shape):
                raise FewstepError(f"sample returned shape {tuple(samples.shape)}, not {(len(indices), *self.shape)}")
            if not samples.isfinite().all():
                raise Diverged(
                    f"{int((~samples.isfinite()).flatten(1).any(1).sum())} of {len(indices)} samples are not finite"
                )
            out[start : start + len(indices)] = samples.float().cpu()
            calls += [field.nfe if field else 0] * len(indices)
            levels = levels or [float(f"{u:.6g}") for u in (field.levels if field else [])]  # of the first batch
        if len(set(calls)) != 1 and not self.adaptive:
            raise FewstepError(f"batches used different numbers of network calls: {sorted(set(calls))}")
        measured = sum(calls) / n
        flops = measured * self.flops_per_call + self.helper_flops
        cost = {"seconds_per_sample": seconds / n, "gflop_per_sample": flops / 1e9}
        if self.helper_flops:
            cost["helper_seconds_per_sample"] = helpers / n
            cost["helper_gflop_per_sample"] = self.helper_flops / 1e9
        return out, {"nfe_measured": measured, "n_samples": n, "levels": levels, **cost, **self.fit_cost}


def _sampler(plan: Plan, entrant: Entrant, layout, device: torch.device, state_dir: Path) -> _Draw | Callable:
    fitted = entrant.fitted
    section, shape = plan.section(fitted.dataset), DATASETS[fitted.dataset].shape

    def start(indices: range) -> Tensor:
        return latents(fitted.dataset, fitted.seed, indices, shape).to(device)

    if entrant.control:
        method = registry.get(entrant.solver, "control")
        dataset = data.load(fitted.dataset)

        def control(indices: range, z: Tensor, nfe: int) -> tuple[Tensor, None]:
            return method.verb("sample")(dataset, z, SampleRng(dataset.name, fitted.seed, indices)), None

        return _Draw(section, dataset.shape, start, control)
    try:
        loaded = load_fitted(layout, fitted, device)
        method = loaded.accelerator if entrant.solver == OWN else registry.get(entrant.solver, "solver")
        other = plan.learnt_on(entrant)
        on = loaded if other == fitted else load_fitted(layout, other, device)
        learnt = _learnt(plan, entrant, on, method, state_dir)
    except Upstream as error:
        return _Refused(error)
    sample = bind(method, plan.params(fitted.dataset, method), learnt)

    def solve(indices: range, z: Tensor, nfe: int) -> tuple[Tensor, Field]:
        field = loaded.field(indices, z, budget=nfe)
        return sample(field, z, nfe), field

    if device.type == "cuda":  # the first call loads kernels; that is no method's cost
        z = start(range(min(section.batch, section.n_samples)))
        field = loaded.field(range(len(z)), z)
        field(field.start(z, field.path.t_max), field.path.t_max)
    draw = _Draw(section, shape, start, solve, method.nfe.adaptive)
    draw.flops_per_call, draw.helper_flops = loaded.state.info["flops_per_call"], loaded.state.info["helper_flops"]
    if learnt:
        draw.fit_cost = {"fit_seconds": learnt.info["seconds"], "fit_teacher_calls": learnt.info["calls"]}
    return draw


def _learnt(plan: Plan, entrant: Entrant, loaded: Loaded, method: Method, state_dir: Path) -> State | None:
    """What a solver with a `fit` learns from `loaded`, for all its NFE. Raises Upstream when the fit fails."""
    if method.kind != "solver" or not method.learns:
        return None
    fitted, file, beat = loaded.fitted, state_dir / LEARNT, state_dir / BEAT
    if file.exists():
        tensors, info = load_tensors(file)
        return State(None, {}, tensors, info)
    task = Calibration(
        dataset=data.load(fitted.dataset),
        params=plan.params(fitted.dataset, method),
        nfes=entrant.nfes,
        axes=("calibration", fitted.dataset, fitted.model, method.id, fitted.seed),
        make_field=partial(loaded.field, purpose="calibration"),
        solver_of=plain,
        state_dir=state_dir,
        device=loaded.device,
        on_progress=lambda: write_json(beat, {"nfe": None}),
    )
    try:
        learnt = calibrate(method, task)
        save_tensors(file, learnt.tensors, learnt.info)
        return learnt
    except WriteError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise Upstream(f"{method.id} could not be fitted: {one_line(error)}", status_of(error)) from error


class _Refused:
    """Stands in for a sampler whose model or solver was never fitted: every point gets that reason."""

    def __init__(self, error: Upstream):
        self.error = error

    def __call__(self, nfe: int):
        raise self.error


def _point(draw: Callable, nfe: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and row of one NFE; whatever a method raises becomes a row."""
    try:
        samples, row = draw(nfe)
    except Exception as error:
        if not isinstance(error, Upstream):
            traceback.print_exc()
        return {}, {"status": status_of(error), "reason": one_line(error)}
    # Images are judged as 8-bit; a few stay exact for the distance to the converged solution.
    is_image = len(draw.shape) == 3
    tensors = {"": to_uint8(samples) if is_image else samples, "probe_": samples[: draw.section.probes].clone()}
    return tensors, {"status": OK, "reason": "", **row}
