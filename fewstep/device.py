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


@contextlib.contextmanager
def lease() -> Iterator[torch.device]:
    """Yield the device to work on.

    A scheduler that has set CUDA_VISIBLE_DEVICES has chosen already. Otherwise each GPU is lent to one job at a time,
    however many jobs Snakemake starts; a job waits for the first free one.
    """
    if not torch.cuda.is_available():
        yield torch.device("cpu")
        return
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        yield torch.device("cuda", 0)
        return
    folder = Path(tempfile.gettempdir()) / f"fewstep-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    while True:
        for index in range(torch.cuda.device_count()):
            lock = FileLock(folder / f"{index}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            with lock:
                yield torch.device("cuda", index)
            return
        time.sleep(1.0)
