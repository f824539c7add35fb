"""Pairs (noise, sample) drawn from a model's own ODE, in shards that survive a kill."""

from __future__ import annotations

import torch
from torch import Tensor

from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.errors import CheckpointError, Diverged
from fewstep.model import Model
from fewstep.progress import track
from fewstep.task import Task

SHARD = 1024


def make_pairs(task: Task, model: Model, n: int, solver: str, nfe: int, name: str) -> tuple[Tensor, Tensor]:
    """n pairs (z, x0), both [n, *shape] on the CPU: x0 is `solver`'s sample of the latent z with `nfe` calls.

    Noise is derived from its index and not stored; finished shards of samples are read back from the task's folder
    after a kill, if their checksum holds. Adds the calls to the ledger as `teacher_calls`. Raises Diverged.
    """
    sample = task.solver(solver)
    z, x0 = [], []
    starts = range(0, n, SHARD)
    for start in track(starts, f"pairs {name}", len(starts), scale=SHARD, unit="pair"):
        indices = range(start, min(start + SHARD, n))
        latents = task.latents(indices, f"pairs/{name}")
        z.append(latents)
        x0.append(_shard(task, model, latents, sample, nfe, f"pairs-{name}-{start}"))
    task.ledger["teacher_calls"] = task.ledger.get("teacher_calls", 0) + n * nfe
    return torch.cat(z), torch.cat(x0)


def _shard(task: Task, model: Model, latents: Tensor, sample, nfe: int, name: str) -> Tensor:
    file = task.state_dir / f"{name}.safetensors"
    if file.exists():
        try:
            return load_tensors(file)[0]["x0"]
        except CheckpointError:
            pass  # cut short or damaged: made again below
    x0 = sample(task.field(model, budget=nfe), latents.to(task.device), nfe).cpu()
    if not x0.isfinite().all():
        raise Diverged(f"{name}: the teacher's samples are not finite")
    save_tensors(file, {"x0": x0}, {})
    return x0
