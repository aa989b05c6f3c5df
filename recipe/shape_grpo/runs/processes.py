"""The processes of a run: one session, of which nothing is left when the run has ended.

Ray starts its workers in process groups of their own, and Ray's and vLLM's outlive whoever is
killed before them. None of them leaves the session.
"""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

SECONDS_TO_END = 15
"""Between the request to end and the kill: Ray and vLLM remove their shared memory in it."""


def session_processes(session: int) -> list[psutil.Process]:
    """The processes of a session that have not ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def end_session(session: int, seconds: float = SECONDS_TO_END) -> None:
    """Ask all processes of a session to end, and kill those that have not after ``seconds``."""
    processes = session_processes(session)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(processes, timeout=seconds)
    # Also those that were started meanwhile.
    for process in session_processes(session):
        with suppress(psutil.NoSuchProcess):
            process.kill()
