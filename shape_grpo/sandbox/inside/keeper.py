"""Starts the worker where no pid namespace would end its descendants, and ends them itself.

    keeper.py sandlock|none FOLDER POLICY LIFELINE COMMAND...

Ends when the command ends or the pipe LIFELINE is closed, after killing every descendant: orphans
come to this process, their subreaper.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import worker

PR_SET_CHILD_SUBREAPER = 36
# What Landlock leaves open to the same user: metadata of files, and settings of processes.
# fmt: off
DENIED = [
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat",
    "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr", "utime",
    "utimes", "utimensat", "futimesat", "setpriority", "ioprio_set", "prlimit64",
    "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr",
]
# fmt: on


def start(backend: str, folder: str, policy: dict[str, Any], command: list[str]) -> int:
    """Start the command, with this process's file descriptors 0 to 2; return its pid."""
    if backend == "none":
        return subprocess.Popen(command, cwd=folder, start_new_session=True).pid
    from sandlock import Sandbox, StdioMode

    sandbox = Sandbox(
        fs_readable=[*policy["readable"], "/dev/null", "/dev/urandom"],
        fs_writable=[folder, "/dev/null"],
        # Not with `workdir` and `max_disk`: with them chmod cannot be denied, and reaches outside.
        cwd=folder,
        max_processes=policy["processes"],
        max_memory=policy["memory"],
        no_coredump=True,
        extra_deny_syscalls=DENIED,
    )
    process = sandbox.popen(
        command, stdin=StdioMode.INHERIT, stdout=StdioMode.INHERIT, stderr=StdioMode.INHERIT
    )
    start.keep = sandbox, process  # type: ignore[attr-defined]
    return process.pid


def descendants() -> list[int]:
    """Process ids of all children, and of theirs."""
    found, frontier = [], [os.getpid()]
    while frontier:
        pid = frontier.pop()
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                some = [int(child) for child in children.read_text().split()]
            except OSError:
                continue
            found += some
            frontier += some
    return found


def kill_descendants() -> None:
    """Kill them, and those that they start meanwhile, until none is left."""
    while alive := descendants():
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def disk_use(folder: str) -> int:
    """Bytes in the folder, and in deleted files that a descendant holds open."""
    sizes: dict[int, int] = {}
    paths = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    paths += [path for pid in descendants() for path in Path(f"/proc/{pid}/fd").glob("*")]
    device = os.stat(folder).st_dev
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            if stat.S_ISREG(found.st_mode) and found.st_dev == device:
                sizes[found.st_ino] = 512 * found.st_blocks
    return sum(sizes.values())


def main() -> None:
    """Keep one run: end it when its caller is gone, or it writes too much."""
    backend, folder, limits, lifeline, *command = sys.argv[1:]
    policy = json.loads(limits)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(int(lifeline), False)
    worker.limit_resources(policy, own_account=False)
    pid = start(backend, folder, policy, command)
    ended = os.pidfd_open(pid)
    for descriptor in (0, 1, 2):  # their ends must close with the worker
        os.close(descriptor)
    while not select.select([ended, int(lifeline)], [], [], 0.1)[0]:
        if disk_use(folder) > policy["disk"]:
            break
    kill_descendants()
    os._exit(0)


if __name__ == "__main__":
    main()
