"""Imports modules once, then forks a worker per run, each in namespaces of its own.

    zygote.py UID CONTROL MODULES...

Itself inside bubblewrap. The socket CONTROL brings each run's file descriptors (job, reply,
printed, hello, and the entrance of its cgroup if it has one); a run's data never passes through
this process. Ends when the socket is closed.
"""

import contextlib
import importlib
import os
import signal
import socket
import sys
from pathlib import Path

import confine
import syscalls
import worker

# linux/sched.h, linux/prctl.h
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
PR_SET_DUMPABLE = 4


def unshare() -> None:
    """New namespaces; of pids, for the next child."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS
    confine.checked(confine.libc.unshare(flags), "unshare")
    # After setuid, /proc/self belongs to root.
    confine.checked(confine.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def enters(cgroup: int) -> bool:
    """Whether this process could put itself into the cgroup."""
    with contextlib.suppress(OSError):
        return os.write(cgroup, b"0") > 0
    return False


def run(disk: int, descriptors: list[int]) -> None:
    """In a fork of the zygote: one run, in a fork of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    incoming, outgoing, printed, hello, *entrance = descriptors
    entered = all(enters(descriptor) for descriptor in entrance) and entrance
    unshare()
    pid = os.fork()
    if pid:
        with socket.socket(fileno=hello) as caller:
            socket.send_fds(caller, [b"+" if entered else b"-"], [os.pidfd_open(pid)])
        os._exit(0)
    os.setsid()  # a signal to our process group would reach the zygote
    confine.give_way(1000)
    folder = os.getcwd()
    confine.cover_files(folder, disk, os.getuid())
    os.chdir(folder)
    confine.drop_capabilities()
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    incoming, outgoing = os.dup2(incoming, 100), os.dup2(outgoing, 101)
    os.closerange(3, 100)
    os.closerange(102, 65536)
    os.umask(0o077)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(int.from_bytes(os.urandom(4)))  # without an argument, three times slower
    syscalls.restrict()
    worker.serve(incoming, outgoing, limited=False)
    os._exit(0)


def main() -> None:
    """Import what runs will want, then fork one run for each message."""
    uid, control, *modules = sys.argv[1:]
    confine.give_way(500)
    if os.getuid() == 0:
        confine.become_nobody(int(uid))
    confine.drop_capabilities()
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
        if len(os.listdir("/proc/self/task")) > 1:
            # A fork has none of the threads, and any lock that one held is held for ever.
            sys.exit(f"importing {module} starts a thread, so it cannot be warm")
    syscalls.prepared_filter()  # which the forks then need not prepare
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    caller = socket.socket(fileno=int(control))
    caller.sendall(b"ready")
    while True:
        disk, descriptors, _, _ = socket.recv_fds(caller, 32, 5)
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
