"""The devices of a job: free GPUs, each under a file lock, or the CPU."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fewstep.layout import WAITING

GIVEN = ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE")  # Slurm tells of GPUs
CPU_PROCESSES = "FEWSTEP_CPU_PROCESSES"  # of a job that may have several devices, on a machine without GPUs


@contextlib.contextmanager
def lease(state: Path) -> Iterator[torch.device]:
    """Yield one device to work on: the CPU, or a GPU that no other job of this user has; see `leases`."""
    if names := gpus():
        with _lent(names, 1, state) as (device,):
            yield device
    else:
        yield torch.device("cpu")


@contextlib.contextmanager
def leases(state: Path, n: int) -> Iterator[list[torch.device]]:
    """Yield the devices of a job that asks for `n` of them (0 counts as 1): GPUs that no other job of this user has.

    However many jobs Snakemake starts, each GPU is lent to one at a time; a job waits for its own and touches a file in
    its state folder, so that waiting doesn't count as work. Of a machine with fewer GPUs a job gets all. Without any it
    gets the CPU, as often as FEWSTEP_CPU_PROCESSES says (once).
    """
    if names := gpus():
        with _lent(names, max(1, n), state) as devices:
            yield devices
    else:
        yield [torch.device("cpu")] * max(1, int(os.environ.get(CPU_PROCESSES, "1")))


def gpus() -> list[str]:
    """Names of the GPUs that this process may use, the same in every process: Slurm may number each job's from 0.

    Where Slurm gave the job none, those that can be seen are others'.
    """
    if "SLURM_JOB_ID" in os.environ and not any(os.environ.get(name) for name in GIVEN):
        return []
    if not torch.cuda.is_available():
        return []
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if any(name.startswith("MIG-") for name in visible):  # parts of one GPU may bear one UUID
        return [name for name in visible if name]
    return [str(torch.cuda.get_device_properties(index).uuid) for index in range(torch.cuda.device_count())]


@contextlib.contextmanager
def _lent(names: Sequence[str], n: int, state: Path) -> Iterator[list[torch.device]]:
    with locked(names, n, state) as indices:
        torch.cuda.set_device(indices[0])
        yield [torch.device("cuda", index) for index in indices]


@contextlib.contextmanager
def locked(names: Sequence[str], n: int, state: Path) -> Iterator[list[int]]:
    """Hold the locks of n of these devices, or of all if there are fewer, and yield their places among `names`.

    A job takes all that it needs at once or nothing, one job after the other: none waits while it holds some.
    """
    if n > len(names):
        print(f"{n} GPUs are asked for and {len(names)} are here: the job runs on these", file=sys.stderr, flush=True)
        n = len(names)
    folder = Path(tempfile.gettempdir()) / f"fewstep-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    choosing = FileLock(folder / "choosing.lock")
    locks = [FileLock(folder / f"{name.strip().replace('/', '_')}.lock") for name in names]
    while True:
        with contextlib.ExitStack() as held:
            with choosing:
                free = [index for index, lock in enumerate(locks) if _take(lock, held)]
                for index in free[n:]:
                    locks[index].release()
            (state / WAITING).touch()
            if len(free) >= n:
                yield free[:n]
                return
        time.sleep(1.0)


def _take(lock: FileLock, held: contextlib.ExitStack) -> bool:
    """Whether the lock was free; it's then held until the stack is left."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    held.callback(lock.release)
    return True
