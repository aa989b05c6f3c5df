"""The processes of a run: one session, which ends with the run.

Ray starts its workers in separate process groups, but in the same session; some outlive their
parent. Ray ends workers by SIGKILL, before anything removes their shared memory: each run of vLLM
would leave two segments.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

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

    The first SIGINT or SIGTERM ends the block by an exception, as KeyboardInterrupt or SystemExit.
    Further ones do not stop the cleaning; they print that it takes a while. (Signals are left alone
    outside of the main thread.)

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
        self._handlers: dict[int, Any] = {}
        self._is_ending = False
        self._late_signal: int | None = None

    def __enter__(self) -> None:
        self._thread.start()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._interrupted)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_ending = True
        try:
            self._clean()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        if error is None and self._late_signal is not None:
            raise _exception_of(self._late_signal)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if not self._is_ending:
            self._is_ending = True
            raise _exception_of(number)
        self._late_signal = number
        print(
            "Still ending the run's processes and removing their shared memory (up to "
            f"{self._seconds:.0f} s).",
            file=sys.stderr,
        )

    def _clean(self) -> None:
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


def _exception_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
