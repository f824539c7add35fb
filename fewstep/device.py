"""One device a job: a free GPU under a file lock, or the CPU."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fewstep.layout import WAITING


@contextlib.contextmanager
def lease(state: Path) -> Iterator[torch.device]:
    """Yield the device to work on: the CPU, or a GPU that no other job of this user has.

    However many jobs Snakemake starts, each GPU is lent to one at a time; a job waits for the first free one and
    touches a file in its state folder, so that waiting doesn't count as work. The lock is on the device's name in
    CUDA_VISIBLE_DEVICES, where that is set.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = names or [str(index) for index in range(torch.cuda.device_count())]
    folder = Path(tempfile.gettempdir()) / f"fewstep-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    locks = [FileLock(folder / f"{name.strip().replace('/', '_')}.lock") for name in names]
    while True:
        for index, lock in enumerate(locks):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                (state / WAITING).touch()
                torch.cuda.set_device(index)
                yield torch.device("cuda", index)
            finally:
                lock.release()
            return
        (state / WAITING).touch()
        time.sleep(1.0)
