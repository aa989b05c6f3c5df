"""Imports modules once, then forks a worker per run, each in namespaces of its own.

    zygote.py UID CONTROL MODULES...

Itself inside bubblewrap. The socket CONTROL brings each run's file descriptors (job, reply,
printed, hello); a run's data never passes through this process. Ends when the socket is closed.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
from pathlib import Path

import worker

# linux/sched.h, linux/mount.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REC, MS_SLAVE = 1, 2, 4, 0x4000, 0x80000
PR_SET_DUMPABLE = 4

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    """Raise the OSError of a call into libc that failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare() -> None:
    """New namespaces; of pids, for the next child."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS
    checked(libc.unshare(flags), "unshare")
    # After setuid, /proc/self belongs to root.
    checked(libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def mount(target: str, flags: int, options: str | None) -> None:
    """Change a mount, or with `options` put an empty file system there."""
    kind = b"tmpfs" if options is not None else None
    checked(libc.mount(b"none", target.encode(), kind, flags, (options or "").encode()), target)


def confine(disk: int) -> None:
    """An empty working directory of limited size, no /proc, and no capabilities."""
    folder = os.getcwd()
    mount("/", MS_REC | MS_SLAVE, None)
    mount(folder, MS_NOSUID | MS_NODEV, f"size={disk},nr_inodes=10000,mode=0700")
    os.chdir(folder)
    mount("/proc", MS_RDONLY, "size=4096")
    worker.drop_capabilities()


def run(disk: int, descriptors: list[int]) -> None:
    """In a fork of the zygote: one run, in a fork of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    incoming, outgoing, printed, hello = descriptors
    unshare()
    pid = os.fork()
    if pid:
        with socket.socket(fileno=hello) as caller:
            socket.send_fds(caller, [b"."], [os.pidfd_open(pid)])
        os._exit(0)
    os.setsid()  # a signal to our process group would reach the zygote
    confine(disk)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    incoming, outgoing = os.dup2(incoming, 100), os.dup2(outgoing, 101)
    os.closerange(3, 100)
    os.closerange(102, 65536)
    os.umask(0o077)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()
    worker.serve(incoming, outgoing, limited=False)
    os._exit(0)


def main() -> None:
    """Import what runs will want, then fork one run for each message."""
    uid, control, *modules = sys.argv[1:]
    if os.getuid() == 0:
        worker.become_nobody(int(uid))
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    caller = socket.socket(fileno=int(control))
    caller.sendall(b"ready")
    while True:
        disk, descriptors, _, _ = socket.recv_fds(caller, 32, 4)
        if not disk:
            os._exit(0)
        if os.fork() == 0:
            try:
                caller.close()
                run(int(disk), descriptors)
            except BaseException as error:
                os.write(descriptors[2], str(error).encode())
            finally:
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
