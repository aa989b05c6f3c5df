"""Start the worker without isolation, and end all processes that it started.

    keeper.py FOLDER POLICY LIFELINE COMMAND...

The keeper ends when the command ends or the pipe LIFELINE is closed, after killing all descendants:
as their subreaper, it becomes the parent of orphans.
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

import confine
from processes import descendants

PR_SET_CHILD_SUBREAPER = 36


def kill_descendants() -> None:
    """Kill all descendants, and those that they start meanwhile, until none is left."""
    while alive := descendants(os.getpid()):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return


def disk_usage(folder: str) -> tuple[int, int]:
    """Return bytes and entries in the folder; bytes include deleted files that are still open."""
    sizes: dict[int, int] = {}
    count, folders = 0, [folder]
    paths = [path for pid in descendants(os.getpid()) for path in Path(f"/proc/{pid}/fd").glob("*")]
    while folders and count <= confine.FILES:
        with contextlib.suppress(OSError):
            for entry in os.scandir(folders.pop()):
                count += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    paths.append(Path(entry.path))
    device = os.stat(folder).st_dev
    for path in paths:
        with contextlib.suppress(OSError):
            file = path.stat()
            if stat.S_ISREG(file.st_mode) and file.st_dev == device:
                sizes[file.st_ino] = 512 * file.st_blocks
    return sum(sizes.values()), count


def main() -> None:
    """Keep one run; end it when its caller has ended or it writes too much."""
    folder, limits, lifeline, *command = sys.argv[1:]
    policy = json.loads(limits)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(int(lifeline), False)
    confine.limit_resources(policy, own_account=False)
    worker = subprocess.Popen(command, cwd=folder, start_new_session=True)
    for descriptor in (0, 1, 2):  # so that the pipes close when the worker ends
        os.close(descriptor)
    ends = select.poll()
    ends.register(os.pidfd_open(worker.pid), select.POLLIN)
    ends.register(int(lifeline), select.POLLIN)
    while not ends.poll(100):
        size, files = disk_usage(folder)
        if size > policy["disk"] or files > confine.FILES:
            break
    kill_descendants()
    os._exit(0)


if __name__ == "__main__":
    main()
