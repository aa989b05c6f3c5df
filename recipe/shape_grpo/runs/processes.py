"""The processes of a run: one session, which ends with the run.

Ray starts its workers in separate process groups, but in the same session; some outlive their
parent. Ray ends workers by SIGKILL, before anything removes their shared memory: each run of vLLM
would leave two segments.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

SECONDS_TO_END = 15
"""Seconds between SIGTERM and SIGKILL."""
SECONDS_BETWEEN_LOOKS = 5
SHARED_MEMORY = Path("/dev/shm")
_MAPPED = re.compile(rb"/dev/shm/((?:psm|verl_weights)_\w+)\n")
"""Shared memory in a process's maps: of Python (used by vLLM), or of verl's weight sync."""


def session_processes(session: int) -> list[psutil.Process]:
    """Return the running processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


class WholeSession:
    """Context manager that ends a session and removes its processes' shared memory.

    Args:
        leader: The first process of the session (``start_new_session=True``).
        seconds: Time to wait between SIGTERM and SIGKILL.
    """

    def __init__(self, leader: subprocess.Popen[bytes], seconds: float = SECONDS_TO_END) -> None:
        self._leader = leader
        self._seconds = seconds
        self._there_before = _segments()
        self._mapped: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        processes = session_processes(self._leader.pid)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(processes, timeout=self._seconds)
        # New processes may have started meanwhile.
        for process in session_processes(self._leader.pid):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._leader.wait()
        for name in self._mapped - self._there_before:
            (SHARED_MEMORY / name).unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        for process in session_processes(self._leader.pid):
            with suppress(OSError):
                maps = Path(f"/proc/{process.pid}/maps").read_bytes()
                self._mapped |= {name.decode() for name in _MAPPED.findall(maps)}


def _segments() -> set[str]:
    return set(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else set()
