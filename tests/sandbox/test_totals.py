"""Limits of a run as a whole: memory, files and time of all its processes together."""

import contextlib
import os
import secrets
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shape_grpo.sandbox import Limits, Sandbox, SandboxError, totals
from shape_grpo.sandbox.conversation import Conversation
from shape_grpo.sandbox.guests import Guest
from tests.sandbox.processes import processes_with
from tests.waiting import wait_until

SMALL = Limits(seconds=60, memory=256 << 20, processes=12, disk=4 << 20, output=1 << 20)
# Eight processes of 100 MB each, together three times what they may use.
HUNGRY = """
import os, time
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        {take}
        time.sleep(600)
        os._exit(0)
    children.append(child)
{then}
"""
OWN_PAGES = "held = bytearray(100 << 20); held[::4096] = b'x' * 25600"


@pytest.fixture(scope="module")
def small():
    try:
        return Sandbox("bubblewrap", limits=SMALL)
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["a cgroup", "watching"])
def limited(small, request, monkeypatch):
    if request.param == "watching":
        monkeypatch.setattr(totals, "cgroup_parent", lambda: None)
    elif totals.cgroup_parent() is None:
        pytest.skip("no cgroup can be made here")
    return small


@pytest.mark.parametrize("then", ["time.sleep(600)", "[os.waitpid(c, 0) for c in children]", ""])
def test_processes_share_one_limit_of_memory(limited, then):
    code = HUNGRY.format(take=OWN_PAGES, then=then or "while True: pass")
    outcome = limited.run(code)
    assert outcome.status == "died", outcome


def test_memory_is_limited_without_isolation_too():
    sandbox = Sandbox("none", unsafe=True, limits=SMALL)
    assert sandbox.run(HUNGRY.format(take=OWN_PAGES, then="time.sleep(600)")).status == "died"


def test_what_is_forked_counts_once(limited):
    """Eight processes that share a parent's pages do not use eight times as much."""
    code = HUNGRY.format(take="", then="time.sleep(1); x = [os.kill(c, 9) for c in children]")
    code = "held = b'x' * (100 << 20)\n" + code
    assert limited.run(code, outputs=["x"]).status == "done"


def test_a_run_within_its_limit_is_left_alone(limited):
    code = "held = bytearray(100 << 20); import time; time.sleep(0.5); x = len(held)"
    assert limited.run(code, outputs=["x"]).values() == {"x": 100 << 20}


@pytest.mark.parametrize("way", ["fresh", "warm", "warm, put there by the caller"])
def test_a_run_is_in_a_cgroup_which_is_gone_with_it(small, way, monkeypatch):
    if (parent := totals.cgroup_parent()) is None:
        pytest.skip("no cgroup can be made here")
    if way.endswith("caller"):
        monkeypatch.setattr(totals, "ENTRANCE", "no such file")
    sandbox = small if way == "fresh" else Sandbox("bubblewrap", limits=SMALL, warm=["json"])
    assert (way == "fresh") == (not sandbox.warm)
    mine = f"sandbox-{os.getpid()}-*/cgroup.procs"
    members = []

    def answer(_):
        members.extend(set(path.read_text().split()) for path in parent.glob(mine))
        return b""

    code = "import os; child = os.fork() or os._exit(0); ask(b''); child = os.fork()"
    for _ in range(3):
        sandbox.run(code, answer=answer)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: sandbox.run(code, answer=answer), range(6)))
    assert len(members) >= 9
    assert all(members[:3])  # one at a time: later, some are seen before anybody is in
    assert list(parent.glob(mine)) == []
    if way != "fresh":
        sandbox.close()


def test_cgroups_are_made_as_near_as_possible():
    root = Path("/sys/fs/cgroup")
    version_1 = "9:name=systemd:/\n4:memory:/box/one\n0::/\n"
    assert totals.cgroup_folders(version_1) == [root / "memory/box/one", root]
    assert totals.cgroup_folders("0::/a/b\n") == [root / "a/b", root / "a", root]
    assert totals.cgroup_folders("4:cpu,memory:/\n") == [root / "memory"]


def test_a_cgroup_of_version_2_leaves_no_swap_and_ends_as_a_whole(tmp_path, monkeypatch):
    """The files follow the kernel's Documentation/admin-guide/cgroup-v2.rst."""
    files = ("memory.max", "memory.swap.max", "memory.oom.group", "cgroup.procs")
    mkdir = Path.mkdir

    def make(self):
        mkdir(self)
        for name in files:
            (self / name).write_text("max")

    monkeypatch.setattr(Path, "mkdir", make)
    cgroup = totals.make_cgroup(tmp_path, 1 << 30)
    assert [(cgroup / name).read_text() for name in files[:3]] == [str(1 << 30), "0", "1"]


def test_a_folder_that_is_not_a_cgroup_is_refused(tmp_path):
    with pytest.raises(OSError, match="cannot limit the memory"):
        totals.make_cgroup(tmp_path, 1 << 30)
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_and_the_scheduler_take_the_caller_last(sandbox):
    mark = secrets.token_hex(8)
    code = "import subprocess, sys\n"
    code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', mark])"
    code += "\nask(b'')"
    seen = {}

    def answer(_):
        wait_until(lambda: processes_with(mark))
        for pid in processes_with(mark):
            with contextlib.suppress(OSError):
                seen["oom"] = int(Path(f"/proc/{pid}/oom_score_adj").read_text())
                seen["nice"] = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[16])
        return b""

    assert sandbox.run(code, inputs={"mark": mark}, answer=answer).status == "done"
    assert seen["oom"] == 1000
    assert seen["nice"] >= 5


def test_files_are_counted(sandbox):
    code = """
import os
made = 0
try:
    while made < 100_000:
        made += 1
        open(str(made), "w").close() if made % 2 else os.link("1", f"link {made}")
except OSError:
    pass
"""
    assert sandbox.run(code, outputs=["made"]).values()["made"] <= 10_001


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: os.write(1, b'x')", "always something to read"),
        ("if os.fork():\n    while True: pass\nwhile True: os.write(2, b'x')", "by a child"),
        ("for fd in range(3, 128):\n"
         "    try: os.write(fd, struct.pack('>cQ', b'=', 1 << 25))\n"
         "    except OSError: continue\n"
         "    while True: os.write(fd, b'[')", "a reply that never comes to its end"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("warm", [(), ("json",)])
def test_a_drip_does_not_stop_the_clock(code, reason, warm):
    """Single bytes up to the output limit would take far longer than the time limit."""
    limits = Limits(seconds=1, output=64 << 20)
    try:
        sandbox = Sandbox("bubblewrap", limits=limits, warm=warm)
    except SandboxError as error:
        pytest.skip(str(error))
    outcome = sandbox.run("import os, struct\n" + code)
    sandbox.close()
    assert outcome.status == "timeout", (reason, outcome.detail)


def test_what_is_ready_after_the_time_is_up_comes_too_late():
    job, reply, printed = os.pipe(), os.pipe(), os.pipe()
    ended = []
    guest = Guest(job[1], reply[0], printed[0], totals.Totals(0, 1), lambda: ended.append(True))
    os.write(reply[1], struct.pack(">cQ", b"+", 0) + struct.pack(">cQ", b"=", 2) + b"{}")
    os.write(printed[1], b"x")
    assert Conversation(guest, 1000).run(b"job", 0.0, None).status == "timeout"
    assert ended
    for descriptor in (job[0], reply[1], printed[1]):
        os.close(descriptor)
