"""Forks workers from one process that has imported PyTorch: most jobs of a study are shorter than that import.

The jobs of a run share a server. It ends with the run, whose process id FEWSTEP_FORK_SERVER holds (0 for no server), or
once idle; the next job starts another. It imports libraries alone, so a worker still reads this project's code from
disk. It starts no thread and runs no operation, since neither thread pools nor CUDA survive a fork.

A worker is forked only for a process whose surroundings equal the server's (environment, folder, limits, …). It then
differs from one started in the ordinary way in nothing but its parent, which is the server's watcher: a process that
kills the worker once the connection to whoever asked for it closes, and that reports how the worker ended. Snakemake's
benchmark files count memory and CPU by parenthood, so they miss a forked worker; with FEWSTEP_FORK_SERVER=0 they don't.
A worker is listed under the server's name, and Ctrl-Z stops the job that waits for it, not the worker.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

VARIABLE = "FEWSTEP_FORK_SERVER"
# `_dynamo` and `flop_counter` are what the first optimiser and a FLOP count import. No pandas: it starts a thread.
LIBRARIES = (
    *("numpy", "torch", "torch._dynamo", "torch.utils.flop_counter"),
    *("safetensors.torch", "pydantic.json_schema", "yaml"),
)
IDLE, IMPORT = 300.0, 60.0  # seconds
GPUS = ("nvidia*", "kfd", "dxg")  # below /dev; training on a GPU takes longer than any import


class Worker:
    """A forked worker, to be handled like a `subprocess.Popen`."""

    def __init__(self, connection: socket.socket):
        self._connection, self.returncode = connection, None

    def poll(self) -> int | None:
        """Exit code, or minus the signal that ended it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once there is one. Raises subprocess.TimeoutExpired before that."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("worker", timeout)
            report = _receive(self._connection)
            if not report:  # the watcher was killed, and the worker ends with it, within half a second
                time.sleep(1.0)
            self.returncode = int(report) if report else -signal.SIGKILL
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """End it; `wait` still tells how it ended."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)


def start(job: Path) -> Worker | None:
    """A forked worker for a job file, or None where no server may be used; then it starts in the ordinary way."""
    owner = os.environ.get(VARIABLE, "0")
    if sys.platform != "linux" or not owner.isdigit() or not int(owner) or any(any(Path("/dev").glob(g)) for g in GPUS):
        return None
    connection = None
    with contextlib.suppress(OSError):
        connection = _connect(owner)
        if connection and _same_user(connection):
            connection.settimeout(IMPORT)
            if _receive(connection) == surroundings():
                socket.send_fds(connection, [os.fsencode(job)], [0, 1, 2])
                connection.settimeout(None)
                return Worker(connection)
    if connection:
        connection.close()
    return None


def surroundings() -> str:
    """Digest of what a process takes over from the one that starts it, open files apart."""
    me = Path("/proc/self")
    facts = [sys.executable, str(Path.cwd()), str((me / "ns/mnt").readlink()), os.nice(0), dict(os.environ)]
    facts += [(me / name).read_text() for name in ("cgroup", "limits")]
    kept = ("Umask", "Uid", "Gid", "Groups", "CapEff", "Cpus_allowed", "Mems_allowed")
    kept += ("SigBlk", "SigIgn", "NoNewPrivs", "Seccomp")
    facts += [line for line in (me / "status").read_text().splitlines() if line.split(":")[0] in kept]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def server_name(owner: str) -> str:
    """A server's name among Linux's abstract sockets: no file is left behind, and of two servers one gets the name."""
    return f"fewstep-{os.getuid()}-{owner}-{hashlib.sha256(sys.executable.encode()).hexdigest()[:16]}"


def _connect(owner: str) -> socket.socket | None:
    """A connection to the owner's server, which is started where there is none."""
    name, server, until = server_name(owner), None, time.monotonic() + IMPORT
    while True:
        ended = time.monotonic() > until or (server is not None and server.poll() is not None)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(IMPORT)  # the queue of one that hangs may be full
        try:
            connection.connect(f"\0{name}")
            return connection
        except OSError:
            connection.close()
            if ended:
                return None
        if server is None:
            command = [sys.executable, "-m", "fewstep.forkserver", name, owner]
            nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            server = subprocess.Popen(command, env=os.environ, start_new_session=True, **nothing)
        time.sleep(0.02)


def _same_user(connection: socket.socket) -> bool:
    """Whether the other side belongs to this user; anybody may open an abstract socket."""
    size = struct.calcsize("iII")
    return struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1] == os.getuid()


def _receive(connection: socket.socket) -> str:
    """A message, or nothing where the other side has gone."""
    with contextlib.suppress(ConnectionError):
        return connection.recv(4096).decode()
    return ""


def serve(name: str, owner: int) -> None:
    """Fork a watcher for each connection until the owner ends or nobody has asked for long."""
    greeting = surroundings()
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(f"\0{name}")
        except OSError:  # another server was first
            return
        listener.listen(64)
        end = os.pidfd_open(owner)  # a run that is over raises here
        libraries = {library: importlib.import_module(library) for library in LIBRARIES}
        # Nothing here draws from the global generators; still they differ from worker to worker, as between processes.
        for seed in (libraries["torch"].default_generator.seed, libraries["numpy"].random.seed):
            os.register_at_fork(after_in_child=seed)
        if len(list(Path("/proc/self/task").iterdir())) > 1:
            greeting = "a library started a thread"  # equals nobody's surroundings: workers start in the ordinary way
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers leave no zombies
        while end not in (ready := select.select([listener, end], [], [], IDLE)[0]) and ready:
            connection, _ = listener.accept()
            if _same_user(connection) and not os.fork():
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                os.close(end)
                return _watch(connection, greeting)
            connection.close()


def _watch(connection: socket.socket, greeting: str) -> None:
    """Fork the worker that the other side asks for, kill it should that side end, and report how it ended."""
    connection.sendall(greeting.encode())
    job, files, *_ = socket.recv_fds(connection, 4096, 3)
    if not job:
        return
    watcher = os.getpid()
    worker = os.fork()
    for target, file in enumerate(files):
        if not worker:
            os.dup2(file, target)
        os.close(file)
    if not worker:
        connection.close()
        sys.argv = ["fewstep.worker", os.fsdecode(job), str(watcher)]
        runpy.run_module("fewstep.worker", run_name="__main__", alter_sys=True)
    end = os.pidfd_open(worker)
    if end not in select.select([connection, end], [], [])[0]:
        os.kill(worker, signal.SIGKILL)
    connection.sendall(str(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])).encode())


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
    os._exit(0)  # the server and its watchers; to free PyTorch's objects one by one takes a second
