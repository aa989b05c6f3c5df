"""Restrictions that the worker and the zygote put on themselves before untrusted code runs."""

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
    """Raise an OSError if a call into libc failed."""
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def lower_priority(oom_score: int) -> None:
    """Let the kernel kill this process before the caller, and schedule the caller first.

    The code cannot undo this: its /proc is hidden, and the filter denies setpriority.
    """
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(str(oom_score).encode())
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def mount(target: str, flags: int, options: str | None) -> None:
    """Change the flags of a mount, or with `options` mount an empty file system."""
    kind = b"tmpfs" if options is not None else None
    checked(libc.mount(b"none", target.encode(), kind, flags, (options or "").encode()), target)


def cover_files(folder: str, disk: int, uid: int) -> None:
    """Mount an empty file system of limited size over `folder`, and hide /proc and terminals.

    A process in the folder must change into it again, because it is still in the one below.
    Terminals are hidden because forks of one zygote would share them.
    """
    mount("/", MS_REC | MS_SLAVE, None)
    options = f"size={disk},nr_inodes={FILES},mode=0700,uid={uid},gid={uid}"
    mount(folder, MS_NOSUID | MS_NODEV, options)
    for shared in ("/proc", "/dev/pts"):
        mount(shared, MS_RDONLY, "size=4096")


def drop_root(uid: int) -> None:
    """Change from root to this run's user id; RLIMIT_NPROC does not bind root."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def drop_capabilities() -> None:
    """Drop all capabilities, so that permissions and the limits below bind even root."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("II", CAPABILITY_VERSION_3, 0)
    checked(libc.capset(header, bytes(24)), "capset")


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends."""
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def limit_resources(limits: dict[str, Any], *, own_account: bool) -> None:
    """Limit this process and its descendants; processes only if the user id has no others."""
    resources = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: int(limits["seconds"]) + 1,
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_SIGPENDING: 256,  # limits timers, too
    }
    if own_account:
        resources[resource.RLIMIT_NPROC] = limits["processes"]
    for kind, value in resources.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def enter_sandbox(disk: int, uid: int) -> None:
    """Confine a process started by bubblewrap, which still may mount and change its user id."""
    is_root = os.getuid() == 0
    uid = uid if is_root else os.getuid()
    lower_priority(1000)
    # Unless root started it, bwrap's mount namespace is not this process's to change.
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    folder = os.getcwd()
    cover_files(folder, disk, uid)
    if is_root:
        drop_root(uid)
    os.chdir(folder)
    drop_capabilities()
    syscalls.restrict()
