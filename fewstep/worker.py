"""The worker process: `python -m fewstep.worker JOB.json PARENT`, started by `fewstep.supervise`."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

from fewstep.errors import OK, UserError, one_line, status_of
from fewstep.files import write_json
from fewstep.supervise import USER_ERROR


def _end_with_parent(parent: int) -> None:
    """A worker whose parent was killed stops too, so that the next run finds its state unlocked."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(job_file: str, parent: str) -> int:
    """Run the job and leave its outcome beside it; end when the process `parent` does."""
    job = json.loads(Path(job_file).read_text())
    threading.Thread(target=_end_with_parent, args=(int(parent),), daemon=True).start()
    if "member" in job:  # of several processes that run this stage together
        from fewstep import processes

        processes.member = processes.Member(**job["member"])
    try:
        importlib.import_module(job["stage"]).run(**job["args"])
    except UserError as error:
        outcome = {"status": USER_ERROR, "reason": one_line(error)}
    except BaseException as error:
        traceback.print_exc()
        outcome = {"status": status_of(error), "reason": one_line(error)}
    else:
        outcome = {"status": OK, "reason": ""}
    outcome["at"] = time.time()  # of several processes' failures the first is the cause of the others
    with contextlib.suppress(UserError):  # on a full disk the exit code must do; the parent says what it can't write
        write_json(job["outcome"], outcome)
    return outcome["status"] != OK


def _leave(code: int) -> NoReturn:
    """End as Python does, but leave the memory to the system: to free PyTorch's objects one by one takes a second."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _leave(main(*sys.argv[1:]))
