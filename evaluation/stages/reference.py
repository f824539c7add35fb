"""Stage: what a model's ODE does when nothing is saved: its converged solution, its curvature, its paths.

Beside them stand the model's flow-matching loss and what its fit reports of itself.

Made once a model and shared by every entrant that samples it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from evaluation import codes, paces, training_pairs, trajectories
from evaluation.jobs import describe, write_failure
from evaluation.metrics import DIAGNOSTICS
from evaluation.metrics.curvature import arc_length_ratio, curvature
from fewstep.checkpoints import save_tensors
from fewstep.data.dataset import Dataset
from fewstep.device import lease
from fewstep.errors import OK, Diverged, FewstepError, Upstream
from fewstep.files import write_json
from fewstep.headers import read_header
from fewstep.plan import Fitted
from fewstep.provenance import origin, provenance
from fewstep.seeds import latents
from fewstep.stages.common import Loaded, dataset_of, layout_of, load_fitted, load_plan, set_threads
from fewstep.suggest import unknown

KEPT_IMAGES, KEPT_NODES = 16, 16


def run(study: str, results: str, dataset: str, seed: int, model: str, state_dir: str, threads: int) -> None:
    """Write the model's reference: numbers as JSON; `solution`, `trajectory`, its times and codes as tensors."""
    set_threads(threads)
    plan = load_plan(study)
    section = plan.section(dataset)
    fitted = Fitted.named(dataset, seed, model)
    layout = layout_of(results)
    with lease(Path(state_dir)) as device:
        record = describe(fitted) | {"provenance": provenance(plan.study, device)}
        try:
            loaded, known = load_fitted(layout, fitted, device), dataset_of(plan, layout, dataset)
            reported = _diagnostics(loaded.state.info)
            z = latents(dataset, seed, range(section.probes), loaded.shape).to(device)
            metrics, tensors = _measure(loaded, z, section.curvature_steps)
            metrics += _flow_matching(loaded, known, read_header(layout.model(dataset, seed, model))) + reported
            tensors |= codes.tensors_of(loaded, known) | paces.tensors_of(loaded, z)
            for row in metrics:
                if not math.isfinite(row["value"]):
                    raise Diverged(f"{row['metric']} is not finite")
        except (Upstream, Diverged) as error:
            write_failure(layout, fitted, error.status, str(error))
            return
        info = loaded.state.info
        record["provenance"] |= origin(info)
        fit = {key: info.get(key, 0) for key in ("seconds", "steps", "teacher_calls", "from_scratch")}
        fit["parameters"] = sum(p.numel() for p in loaded.state.model.parameters()) if loaded.state.model else 0
        fit["curves"] = info.get("curves", {})
        # The tensors first: the JSON is what says that both are there.
        save_tensors(layout.reference(dataset, seed, model, ".safetensors"), tensors, {"status": OK})
        record |= {"status": OK, "reason": "", "metrics": metrics, "fit": fit}
        write_json(layout.reference(dataset, seed, model), record)


def _measure(loaded: Loaded, z: torch.Tensor, n: int):
    indices = range(len(z))
    path, u, slopes = trajectories.euler_path(loaded.field(indices, z), z, n)
    solution = trajectories.converged(loaded.field(indices, z), z)
    if not (path.isfinite().all() and solution.isfinite().all()):
        raise Diverged("the ODE's solution is not finite")
    c = curvature(path, u, slopes)
    values = {"curvature": c, "straightness": c * path[0, 0].numel(), "arc_length_ratio": arc_length_ratio(path)}
    metrics = [_row(name, value) | {"n_steps": n} for name, value in values.items()]
    kept, stride = (path, 1) if path[0, 0].ndim == 1 else (path[:, :KEPT_IMAGES], max(1, n // KEPT_NODES))
    return metrics, {
        "solution": solution,
        "trajectory": kept[::stride].clone(),
        "trajectory_times": u[::stride].clone(),
    }


def _flow_matching(loaded: Loaded, dataset: Dataset, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The flow-matching loss on the pairs of the training that a model's header tells of; no row where none can."""
    if not training_pairs.known(loaded):
        return []
    coupling, batch = header["coupling"], header["budget"]["batch"]
    losses = training_pairs.losses(loaded, dataset, coupling, batch)
    return [_row("cfm_loss", losses)]


def _row(name: str, values: torch.Tensor) -> dict[str, Any]:
    """The mean of values [n] with its standard error."""
    values = values.double()
    return {
        "metric": name,
        "value": float(values.mean()),
        "stderr": float(values.std() / len(values) ** 0.5),
        "n": len(values),
    }


def _diagnostics(info: dict[str, Any]) -> list[dict[str, Any]]:
    """What the fit reports of itself. Raises FewstepError for a name that has no row in evaluation/metrics."""
    reported = info.get("diagnostics", {})
    for name in reported:
        if name not in DIAGNOSTICS:
            raise FewstepError(f"{unknown('diagnostic', name, DIAGNOSTICS)}; evaluation/metrics names them")
    return [{"metric": name, "value": float(value)} for name, value in reported.items()]
