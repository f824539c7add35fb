"""Runs a stage in a worker process, so that a hang, a crash or a lack of memory ends the worker and not the study.

The parent imports nothing heavy. It enforces wall-clock limits, which Snakemake's local executor does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewstep import forkserver
from fewstep.errors import FAILED, OK, OUT_OF_MEMORY, TIMEOUT
from fewstep.files import write_json
from fewstep.layout import JOB, WAITING

POLL, STARTUP = 0.1, 300.0  # seconds
USER_ERROR = "user_error"


@dataclass(frozen=True)
class Outcome:
    """How a worker ended; status `user_error` means bad input, of which nothing may be recorded."""

    status: str
    reason: str = ""

    @property
    def ok(self) -> bool:
        return self.status == OK


def start_worker(job: Path) -> forkserver.Worker | subprocess.Popen:
    """A worker process for a job file; it ends with the process that calls this."""
    command = [sys.executable, "-m", "fewstep.worker", str(job), str(os.getpid())]
    return forkserver.start(job) or subprocess.Popen(command)


def run_worker(stage: str, args: dict[str, Any], state_dir: Path, limit: float, beat: Path | None = None) -> Outcome:
    """Run `stage.run(**args)` in a worker until it ends.

    `limit` seconds may pass in all, or between two writes of the file `beat` where the stage writes one (it has
    STARTUP seconds until the first); waiting for a GPU doesn't count. A worker that is killed from outside is started
    once more: its stage resumes from `state_dir`.
    """
    for attempt in (1, 2):
        outcome, killed = _run_once(stage, args, state_dir, limit, beat)
        if not (killed and attempt == 1):
            break
        print(f"{stage}: the worker was killed; starting it again from its last checkpoint", file=sys.stderr)
    return outcome


def _sign(beat: Path | None, state_dir: Path) -> list[int]:
    """Changes whenever the worker gives a sign of progress, or of waiting for a GPU."""
    files = [state_dir / WAITING] + [beat] * (beat is not None)
    return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]


def _run_once(stage, args, state_dir: Path, limit: float, beat: Path | None) -> tuple[Outcome, bool]:
    state_dir.mkdir(parents=True, exist_ok=True)
    file = state_dir / "outcome.json"
    file.unlink(missing_ok=True)
    job = state_dir / JOB
    write_json(job, {"stage": stage, "args": args, "outcome": str(file)})
    worker = start_worker(job)
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sign, since = _sign(beat, state_dir), time.monotonic()
        allowed = limit if beat is None else max(limit, STARTUP)
        while worker.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(POLL)
            if (now := _sign(beat, state_dir)) != sign:
                sign, since, allowed = now, time.monotonic(), limit
            if time.monotonic() - since > allowed:
                return Outcome(TIMEOUT, f"no end after {limit:.0f} s"), False
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
        signal.signal(signal.SIGTERM, previous)
    if file.exists():
        result = json.loads(file.read_text())
        return Outcome(result["status"], result["reason"]), False
    if worker.returncode == -signal.SIGKILL:
        return Outcome(OUT_OF_MEMORY, "killed by signal 9, most often for lack of memory"), True
    if worker.returncode < 0:
        return Outcome(FAILED, f"killed by signal {-worker.returncode}"), False
    return Outcome(FAILED, f"the worker ended with exit code {worker.returncode} and no word"), False
