"""Processes of the machine, seen from outside any sandbox."""

import time
from pathlib import Path


def processes_with(mark):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in command:
                found.append(int(entry.name))
    return found


def wait_until(condition):
    """For what the kernel does in its own time; a failure is a hang of five minutes."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("still not so")
