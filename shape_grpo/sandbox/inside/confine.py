"""What a process gives up before it runs untrusted code: shared by the worker and the zygote."""

import ctypes
import os
import resource
import signal
import struct
from typing import Any

import syscalls

# linux/prctl.h, linux/capability.h, linux/sched.h, linux/mount.h
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, CAPABILITY_VERSION_3 = 1, 24, 0x20080522
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REC, MS_SLAVE = 1, 2, 4, 0x4000, 0x80000
FILES = 10_000
NICE = 5

libc = syscalls.libc


def checked(result: int, what: str) -> None:
    """Raise the OSError of a call into libc that failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def give_way(oom_score: int) -> None:
    """Be killed before the caller when memory is short, and wait for it when processors are.

    Not to be undone: /proc is covered for the code, and the filter knows no setpriority.
    """
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(str(oom_score).encode())
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def mount(target: str, flags: int, options: str | None) -> None:
    """Change a mount, or with `options` put an empty file system there."""
    kind = b"tmpfs" if options is not None else None
    checked(libc.mount(b"none", target.encode(), kind, flags, (options or "").encode()), target)


def cover_files(folder: str, disk: int, uid: int) -> None:
    """An empty folder of limited size and number of files over this one, no /proc, no terminals.

    A process in the folder is still in the one below: it must go there anew. Forks of one zygote
    would share terminals.
    """
    mount("/", MS_REC | MS_SLAVE, None)
    options = f"size={disk},nr_inodes={FILES},mode=0700,uid={uid},gid={uid}"
    mount(folder, MS_NOSUID | MS_NODEV, options)
    for shared in ("/proc", "/dev/pts"):
        mount(shared, MS_RDONLY, "size=4096")


def become_nobody(uid: int) -> None:
    """Give up root for an account of this run alone: RLIMIT_NPROC does not bind root."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def drop_capabilities() -> None:
    """Root without them is bound by permissions, and by the limits set below."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("II", CAPABILITY_VERSION_3, 0)
    checked(libc.capset(header, bytes(24)), "capset")


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends."""
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def limit_resources(limits: dict[str, Any], *, own_account: bool) -> None:
    """Limits of this process and its descendants; RLIMIT_NPROC counts all of the account's."""
    wanted = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: int(limits["seconds"]) + 1,
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_SIGPENDING: 256,  # timers, too
    }
    if own_account:
        wanted[resource.RLIMIT_NPROC] = limits["processes"]
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def enter_sandbox(disk: int, uid: int) -> None:
    """In a process of bubblewrap's, which alone may still mount and change its user id."""
    rooted = os.getuid() == 0
    uid = uid if rooted else os.getuid()
    give_way(1000)
    # Unless by root, bwrap's own belongs to a user namespace in which this has no say.
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    folder = os.getcwd()
    cover_files(folder, disk, uid)
    if rooted:
        become_nobody(uid)
    os.chdir(folder)
    drop_capabilities()
    syscalls.restrict()
