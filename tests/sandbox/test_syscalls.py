"""The seccomp filter: calls that it stops in a sandbox, and its program on both machine types."""

import errno
import platform
import re
import struct
from pathlib import Path

import pytest

from shape_grpo.sandbox.inside import syscalls

x86_only = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the numbers below are those of x86_64"
)
DENIED = {
    "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "setns": 308, "mount": 165,
    "umount2": 166, "pivot_root": 155, "chroot": 161, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "memfd_create": 319,
    "memfd_secret": 447, "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68, "mq_open": 240,
    "io_uring_setup": 425, "userfaultfd": 323, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "pidfd_getfd": 438, "process_madvise": 440, "kcmp": 312, "bpf": 321,
    "perf_event_open": 298, "clone3": 435, "socket": 41, "connect": 42, "bind": 49,
    "inotify_init1": 294, "fanotify_init": 300, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "personality": 135, "setxattr": 188, "setxattrat": 463,
    "file_setattr": 469, "seccomp": 317, "landlock_create_ruleset": 444, "quotactl": 179,
    "swapon": 167, "reboot": 169, "init_module": 175, "iopl": 172, "syslog": 103, "flock": 73,
    "sched_setattr": 314, "sched_setscheduler": 144, "ioprio_set": 251, "setpriority": 141,
    "setuid": 105, "capset": 126, "mknod": 133, "vmsplice": 278, "mlock": 149, "mbind": 237,
    "remap_file_pages": 216, "sync": 162, "not there yet": 1000,
}  # fmt: skip


@x86_only
def test_calls_that_computing_does_not_need_are_not_there(sandbox):
    code = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, number in calls.items():
    ctypes.set_errno(0)
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.ENOSYS:
        found[name] = ctypes.get_errno()
"""
    outcome = sandbox.run(code, inputs={"calls": DENIED}, outputs=["found"])
    assert outcome.values() == {"found": {}}


def test_calls_that_are_there_take_no_dangerous_arguments(sandbox):
    code = """
import ctypes, fcntl, mmap, os, resource, socket
libc = ctypes.CDLL(None, use_errno=True)
achieved = []
def attempt(name, action):
    try:
        result = action()
    except (OSError, ValueError):
        return
    if not (isinstance(result, int) and result == -1):
        achieved.append(name)
clone = 56 if os.uname().machine == "x86_64" else 220
for bit in (17, 25, 26, 27, 28, 29, 30):
    attempt(f"clone with 1 << {bit}", lambda: libc.syscall(clone, 1 << bit | 17, 0, 0, 0, 0))
mine = open("mine", "w+b")
library = open(os.__file__, "rb")
for file in (mine, library):
    attempt("a lease", lambda: fcntl.fcntl(file, 1024, 0))
    attempt("a notification", lambda: fcntl.fcntl(file, 1026, 4))
    attempt("a lock", lambda: fcntl.lockf(file, fcntl.LOCK_SH))
    attempt("a lock of another kind", lambda: fcntl.flock(file, fcntl.LOCK_EX))
    attempt("attributes", lambda: fcntl.ioctl(file, 0x40086602, b"\\x10" + b"\\0" * 7))
    attempt("terminal input", lambda: fcntl.ioctl(file, 0x5412, b"x"))
attempt("a larger pipe", lambda: fcntl.fcntl(os.pipe()[1], 1031, 1 << 20))
attempt("outliving its caller", lambda: libc.prctl(1, 0, 0, 0, 0))
attempt("hiding from its caller", lambda: libc.prctl(4, 0, 0, 0, 0))
attempt("memory in no sum", lambda: mmap.mmap(-1, 1 << 20))
attempt("memory of a device", lambda: open("/dev/zero", "r+b"))
attempt("limits of others", lambda: resource.prlimit(os.getppid() or 7, resource.RLIMIT_CPU))
attempt("merging pages", lambda: libc.madvise(ctypes.c_void_p(0), 0, 12))
for family in range(60):
    attempt(f"socket {family}", lambda: socket.socket(family, socket.SOCK_STREAM).close())
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        attempt(f"pair {family}", lambda: [s.close() for s in socket.socketpair(family, kind)])
"""
    outcome = sandbox.run(code, outputs=["achieved"])
    assert outcome.values() == {"achieved": []}, outcome


@x86_only
@pytest.mark.parametrize(
    ("machine_code", "reason"),
    [
        ("b8 14 00 00 00 cd 80 c3", "getpid by the 32-bit table, int 0x80"),
        ("b8 27 00 00 40 0f 05 c3", "getpid by the table of x32"),
    ],
)
def test_other_tables_of_calls_kill(sandbox, machine_code, reason):
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
page.write(instructions)
x = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    instructions = bytes.fromhex(machine_code)
    outcome = sandbox.run(code, inputs={"instructions": instructions}, outputs=["x"])
    assert outcome.status == "died", reason


def test_honest_programs_find_what_they_need(sandbox):
    code = """
import asyncio, os, shutil, signal, sqlite3, subprocess, tempfile, threading, time, zipfile
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import pandas as pd
with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    pd.DataFrame({"a": [1, 2]}).to_csv(file.name)
    read = pd.read_csv(file.name)
os.makedirs("a/b"); open("a/b/c", "w").write("x")
shutil.copytree("a", "copy"); shutil.move("copy", "moved"); shutil.rmtree("moved")
shutil.copy2("a/b/c", "d"); os.utime("d"); os.rename("d", "e")
np.save("array.npy", np.arange(3)); mapped = np.load("array.npy", mmap_mode="r+")
zipfile.ZipFile("z.zip", "w").write("e")
said = subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout
with ThreadPoolExecutor(2) as pool: squares = list(pool.map(lambda x: x * x, range(3)))
slept = asyncio.run(asyncio.wait_for(asyncio.sleep(0, "slept"), 5))
rows = sqlite3.connect(":memory:").execute("select 1").fetchall()
signal.setitimer(signal.ITIMER_REAL, 60); signal.alarm(0)
child = os.fork()
if child == 0: os._exit(7)
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
total = np.linalg.inv(np.eye(50)).sum() + int(mapped[2])
"""
    outcome = sandbox.run(code, outputs=["said", "squares", "slept", "rows", "ended", "total"])
    assert outcome.status == "done", outcome.detail
    assert outcome.values() == {
        "said": "hi\n", "squares": [0, 1, 4], "slept": "slept", "rows": [(1,)], "ended": 7,
        "total": 52.0,
    }  # fmt: skip


def decide(program, architecture, number, arguments=()):
    """Return a classic BPF program's value, by interpreting the instructions that seccomp has."""
    arguments = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, architecture, 0, *arguments)
    steps = list(struct.iter_unpack("<HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x35:
            at += if_true if accumulator >= value else if_false
        elif code == 0x25:
            at += if_true if accumulator > value else if_false
        else:
            assert code == 0x06
            return value


AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
KILL, ALLOW = 0x80000000, 0x7FFF0000
HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",
}


@pytest.mark.parametrize("machine", AUDIT)
def test_the_program_allows_its_list_and_nothing_else(machine):
    program = syscalls.seccomp_filter(machine)
    listed = set(syscalls.allowed_numbers(machine).values())
    column = list(AUDIT).index(machine)
    with_arguments = {row[column] for row in syscalls.ALLOWED_ARGUMENTS.values()}
    assert len(program) // 8 < 4096  # BPF_MAXINSNS
    for number in range(1200):
        verdict = decide(program, AUDIT[machine], number, [0xFFFFFFFF] * 6)
        if number in listed:
            assert verdict == ALLOW
        else:
            refusal = errno.EPERM if number in with_arguments else errno.ENOSYS
            assert verdict == 0x00050000 | refusal
    for other in {*AUDIT.values(), 0x40000003} - {AUDIT[machine]}:
        assert decide(program, other, min(listed)) == KILL
    if machine == "x86_64":
        assert decide(program, AUDIT[machine], 0x40000000 | min(listed)) == KILL


@pytest.mark.parametrize("machine", AUDIT)
def test_arguments_are_looked_at_under_the_right_number(machine):
    program, column = syscalls.seccomp_filter(machine), list(AUDIT).index(machine)

    def allowed(name, *arguments):
        number = syscalls.ALLOWED_ARGUMENTS[name][column]
        return decide(program, AUDIT[machine], number, arguments) == ALLOW

    assert allowed("clone", 0x003D0F00)  # of pthread_create
    assert not allowed("clone", 0x10000011)
    assert allowed("mmap", 0, 4096, 3, 0x22)
    assert allowed("mmap", 0, 4096, 3, 0x01)
    assert not allowed("mmap", 0, 4096, 3, 0x21)
    assert not allowed("mmap", 0, 4096, 3, 0x23)
    assert allowed("socketpair", 1, 0x80001)
    assert not allowed("socketpair", 1, 0x80002)
    assert not allowed("socketpair", 40, 1)
    assert not allowed("prctl", 1)
    assert allowed("prlimit64", 0, 7)
    assert not allowed("prlimit64", 1, 7)


@pytest.mark.parametrize("machine", AUDIT)
def test_numbers_are_those_of_the_kernel_headers(machine):
    header = Path(HEADERS[machine])
    if not header.exists():
        pytest.skip(f"no {header}")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    known = {name: int(number) for name, number in re.findall(pattern, header.read_text())}
    if machine == "aarch64":
        known["newfstatat"] = known.pop("fstatat", known.get("newfstatat"))
    ours = syscalls.allowed_numbers(machine)
    column = list(AUDIT).index(machine)
    ours |= {name: row[column] for name, row in syscalls.ALLOWED_ARGUMENTS.items()}
    assert {name: known.get(name) for name in ours} == ours


def test_an_unknown_kind_of_machine_has_no_sandbox():
    with pytest.raises(OSError, match="no seccomp filter for a machine of type riscv64"):
        syscalls.seccomp_filter("riscv64")
