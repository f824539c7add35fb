"""A job on several devices: its worker starts a further process for each, and all run the same stage.

They meet through a file in the job's state folder and talk over the loopback interface. They end together: when one
fails, the job fails for that reason; when one is killed, the worker kills itself in the same way, so that whoever
waits for it starts it again; when the worker ends, the others do (`fewstep.worker`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch
from torch import distributed

from fewstep.device import leases
from fewstep.errors import FAILED, OK, FewstepError, Upstream, UserError
from fewstep.files import read_json, write_json
from fewstep.layout import JOB
from fewstep.supervise import USER_ERROR, start_worker

POLL, GRACE = 0.1, 2.0  # seconds between two looks at the others, and that the end of one takes to show
FOREVER = timedelta(days=365)  # that a process waits for another: the job has a limit of its own
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@dataclass(frozen=True)
class Member:
    """One of a job's processes: its number, how many there are, its device, and the file in which they meet."""

    rank: int
    size: int
    device: str
    store: str


member: Member | None = None  # who this process is, where another one started it


@contextlib.contextmanager
def on_devices(state: Path, wanted: int) -> Iterator[torch.device]:
    """Yield this process's device, in a job that asks for `wanted` of them; inside, `fewstep.distributed` knows all.

    The job's worker leases the devices and starts a process for each but its own. These run the same stage, come here
    too, and yield theirs.
    """
    if member is not None:
        with _together(member) as device:
            yield device
        return
    with leases(state, wanted) as devices:
        if len(devices) == 1:
            yield devices[0]
            return
        others = Others(state, devices)
        try:
            with _together(others.me) as device:
                yield device
        except BaseException as error:
            others.explain(error)
            raise
        finally:
            others.end()


@contextlib.contextmanager
def _together(me: Member) -> Iterator[torch.device]:
    device = torch.device(me.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, LOOPBACK)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    store = distributed.FileStore(me.store, me.size)
    distributed.init_process_group(backend, store=store, rank=me.rank, world_size=me.size, timeout=FOREVER)
    yield device
    # Not after a failure: the others would take this end for the cause.
    distributed.all_reduce(torch.zeros(1))
    distributed.destroy_process_group()


class End(NamedTuple):
    """How one of the others ended, not well: by a signal, or with a status and a reason at a time."""

    signal: int = 0
    status: str = FAILED
    reason: str = ""
    at: float = 0.0


class Others:
    """The processes that a job's worker has started, and what their ends mean for it."""

    def __init__(self, state: Path, devices: Sequence[torch.device]):
        job = read_json(state / JOB)
        for stale in state.glob("meeting-*"):
            stale.unlink()
        store = state / f"meeting-{uuid.uuid4().hex[:8]}"
        members = [Member(rank, len(devices), str(device), str(store)) for rank, device in enumerate(devices)]
        self.me, self.outcome = members[0], Path(job["outcome"])
        self.outcomes = [state / f"outcome{one.rank}.json" for one in members[1:]]
        self.workers, self.lock, self.ending = [], threading.Lock(), False
        for one, file in zip(members[1:], self.outcomes, strict=True):
            file.unlink(missing_ok=True)
            own = state / f"job{one.rank}.json"
            write_json(own, job | {"member": asdict(one), "outcome": str(file)})
            self.workers.append(start_worker(own))
        threading.Thread(target=self._watch, daemon=True).start()

    def explain(self, error: BaseException) -> None:
        """Raise the failure of another, if that came first: this process's own `error` then is its consequence."""
        at, until, self.ending = time.time(), time.monotonic() + GRACE, True
        if isinstance(error, FewstepError):  # nothing that the loss of a connection raises
            return
        while not (ends := self._ends()) and time.monotonic() < until:
            time.sleep(POLL)
        if ends and (first := min(ends, key=lambda end: end.at)).at <= at:
            _die_by(first.signal)
            raise (UserError(first.reason) if first.status == USER_ERROR else Upstream(first.reason, first.status))

    def end(self) -> None:
        """Wait for those that are at their end, too, and kill the rest."""
        self.ending, until = True, time.monotonic() + (0 if sys.exc_info()[0] else 30)
        while time.monotonic() < until and None in self._codes():
            time.sleep(POLL / 10)
        for worker, code in zip(self.workers, self._codes(), strict=True):
            if code is None:
                worker.kill()

    def _watch(self) -> None:
        """End this process, in place of a main thread that waits for one that has failed."""
        while not self.ending:
            if self._ends():
                time.sleep(GRACE)  # the main thread mostly notices by itself
                if not self.ending:
                    first = min(self._ends(), key=lambda end: end.at)
                    _die_by(first.signal)
                    with contextlib.suppress(UserError):
                        write_json(self.outcome, {"status": first.status, "reason": first.reason})
                    os._exit(1)
            time.sleep(POLL)

    def _codes(self) -> list[int | None]:
        with self.lock:
            return [worker.poll() for worker in self.workers]

    def _ends(self) -> list[End]:
        """Of those that did not end well."""
        found = []
        for rank, (code, file) in enumerate(zip(self._codes(), self.outcomes, strict=True), start=1):
            if code is not None and code < 0:
                found.append(End(signal=-code))
            elif file.exists() and (outcome := read_json(file))["status"] != OK:
                found.append(End(0, outcome["status"], outcome["reason"], outcome["at"]))
            elif code:
                found.append(End(reason=f"process {rank} of the job ended with exit code {code} and no word"))
        return found


def _die_by(signal: int) -> None:
    """End this process as another was ended, if that was by a signal."""
    if signal:
        os.kill(os.getpid(), signal)
