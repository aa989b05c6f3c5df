"""Locks on folders, so that two commands never write into one; the kernel releases them.

A lock also belongs to the processes that inherit its descriptor: the folder stays locked until the
last of them ends.
"""

import ctypes
import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

import psutil
from rich.console import Console

LOCK = "lock"
SECONDS_TO_WAIT = 60.0
"""Seconds that the processes of a killed run have for their end."""

_ASK_AT_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG, linux/prctl.h


@contextmanager
def locked_run(run: Path, console: Console) -> Iterator[int]:
    """Lock a run's folder, and yield the lock's descriptor for the run's processes.

    Raises:
        ValueError: Another run is in the folder; the message names its process.
    """
    run.mkdir(parents=True, exist_ok=True)
    # "a" keeps the holder's process id, which is read where the lock is held.
    with (run / LOCK).open("a+") as lock:
        _acquire(lock, run, console)
        lock.truncate(0)
        lock.write(f"{os.getpid()} {socket.gethostname()}")
        lock.flush()
        yield lock.fileno()


def _acquire(lock: TextIOWrapper, run: Path, console: Console) -> None:
    """Lock the file; wait for the processes of a run that was killed.

    Raises:
        ValueError: Another run holds the lock.
    """
    deadline: float | None = None
    while not _try(lock):
        lock.seek(0)
        pid, _, host = lock.read().partition(" ")
        is_here = host == socket.gethostname() and pid.isdecimal()
        if not is_here or _is_running(int(pid)):
            process = f"process {pid}" if is_here else f"process {pid or '?'} on {host or '?'}"
            advice = f"end that run first (kill {pid})" if is_here else "end that run first"
            raise ValueError(_in_use(run, process, advice))
        if deadline is None:
            console.print(f"Waiting for the last processes of a run in {run} that was killed.")
            deadline = time.monotonic() + SECONDS_TO_WAIT
        if time.monotonic() > deadline:
            advice = f"end its processes (fuser -v {run / LOCK} lists them)"
            raise ValueError(_in_use(run, f"process {pid}, which was killed", advice))
        time.sleep(0.2)


def _in_use(run: Path, process: str, advice: str) -> str:
    return (
        f"{run} is in use by another run ({process}). Two runs in one folder would overwrite each "
        f"other's metrics: write another folder, or {advice}."
    )


def _try(lock: TextIOWrapper) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # Some network file systems have no locks. A run there goes on without.
        return True
    return True


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_with_parent() -> None:
    """Ask the kernel to end this process by SIGTERM when its parent ends; for ``preexec_fn``."""
    ctypes.CDLL(None).prctl(_ASK_AT_PARENTS_DEATH, signal.SIGTERM)
