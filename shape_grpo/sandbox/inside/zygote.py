"""Import modules once, then fork one worker per run, each in new namespaces.

    zygote.py UID CONTROL MODULES...

It runs inside bubblewrap. The socket CONTROL carries each run's file descriptors (job, reply,
printed, hello, and the entrance of its cgroup if it has one); the data of runs never pass through
this process. It ends when the socket is closed.
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
    """Enter new namespaces; the one of process ids begins with the next child."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS
    confine.checked(confine.libc.unshare(flags), "unshare")
    # After setuid, /proc/self belongs to root.
    confine.checked(confine.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def enter_cgroup(cgroup: int) -> bool:
    """Move this process into the cgroup; return whether that worked."""
    with contextlib.suppress(OSError):
        return os.write(cgroup, b"0") > 0
    return False


def run(disk: int, descriptors: list[int]) -> None:
    """Run one job in a child of this fork of the zygote."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    incoming, outgoing, printed, hello, *entrance = descriptors
    entered = all(enter_cgroup(descriptor) for descriptor in entrance) and entrance
    unshare()
    pid = os.fork()
    if pid:
        with socket.socket(fileno=hello) as caller:
            socket.send_fds(caller, [b"+" if entered else b"-"], [os.pidfd_open(pid)])
        os._exit(0)
    os.setsid()  # a signal to our process group would reach the zygote
    confine.lower_priority(1000)
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
        numpy.random.seed(int.from_bytes(os.urandom(4)))  # three times faster than seed()
    syscalls.restrict()
    worker.serve(incoming, outgoing, limited=False)
    os._exit(0)


def main() -> None:
    """Import the modules, then fork one run per message."""
    uid, control, *modules = sys.argv[1:]
    confine.lower_priority(500)
    if os.getuid() == 0:
        confine.drop_root(int(uid))
    confine.drop_capabilities()
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
        if len(os.listdir("/proc/self/task")) > 1:
            # A fork lacks the threads, and a lock that one of them held is never released.
            sys.exit(f"importing {module} starts a thread, so it cannot be warm")
    syscalls.prepared_filter()  # once, so that forks need not
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
