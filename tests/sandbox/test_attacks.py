"""One attack per promise, on every sandbox that works here; effects are observed from outside."""

import os
import resource
import secrets
import socket
import time
from pathlib import Path

import pytest

from tests.sandbox.processes import processes_with

TRY = """
import os, sys
achieved = []
def attempt(name, action):
    try:
        found = action()
    except BaseException:
        return
    achieved.append(name if found is None else f"{name}: {found!r}")
"""


def achieved(sandbox, code, **inputs):
    outcome = sandbox.run(TRY + code, inputs=inputs, outputs=["achieved"])
    assert outcome.status == "done", outcome
    return outcome.values()["achieved"]


def test_reads_nothing_outside(sandbox, tmp_path):
    secret = tmp_path / "answers.json"
    secret.write_text("x")
    paths = [str(secret), __file__, "/etc/passwd", "/etc/shadow", str(Path.home() / ".bashrc")]
    code = """
for path in paths:
    attempt(path, lambda: open(path).read(20))
    attempt("list", lambda: os.listdir(os.path.dirname(path)))
    os.path.lexists("link") and os.unlink("link")
    os.symlink(path, "link")
    attempt("linked " + path, lambda: open("link").read(20))
"""
    found = achieved(sandbox, code, paths=paths)
    # The sandbox may have a folder of that name, but none of our files in it.
    assert [line for line in found if not line.startswith("list")] == []
    names = {Path(path).name for path in paths}
    assert not any(name in line for name in names for line in found)


def test_writes_nothing_outside(sandbox, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    victim.chmod(0o640)
    before = victim.stat()
    code = """
victim = folder + "/victim"
attempt("write", lambda: open(victim, "w").write("x") and None)
attempt("create", lambda: open(folder + "/new", "w").write("x") and None)
attempt("delete", lambda: os.unlink(victim))
attempt("truncate", lambda: os.truncate(victim, 0))
attempt("chmod", lambda: os.chmod(victim, 0o777))
attempt("chown", lambda: os.chown(victim, 12345, 12345))
attempt("utime", lambda: os.utime(victim, (1, 1)))
attempt("link", lambda: os.link(victim, "mine"))
attempt("library", lambda: open(os.__file__, "a").write("x") and None)
attempt("another root", lambda: open("/proc/1/root" + victim, "a").write("x") and None)
"""
    assert achieved(sandbox, code, folder=str(tmp_path)) == []
    after = victim.stat()
    assert victim.read_text() == "as it was"
    assert [p.name for p in tmp_path.iterdir()] == ["victim"]
    assert (before.st_mode, before.st_uid, before.st_mtime_ns, before.st_nlink) == (
        after.st_mode,
        after.st_uid,
        after.st_mtime_ns,
        after.st_nlink,
    )


def test_reaches_no_network(sandbox, tmp_path):
    name = "\0" + secrets.token_hex(8)
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        udp.bind(("127.0.0.1", 0))
        abstract.bind(name)
        abstract.listen()
        named.bind(str(tmp_path / "socket"))
        named.listen()
        code = """
import socket
def unix(address):
    socket.socket(socket.AF_UNIX).connect(address)
def send():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", ports[1]))
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", ports[0]), 3).close())
attempt("names", lambda: socket.getaddrinfo("example.org", 80)[0] and None)
attempt("abstract", lambda: unix(name))
attempt("named", lambda: unix(path))
attempt("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close())
attempt("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close())
attempt("udp", send)
"""
        ports = [server.getsockname()[1] for server in (tcp, udp)]
        found = achieved(sandbox, code, ports=ports, name=name, path=str(tmp_path / "socket"))
        # A datagram may be sent within the sandbox's own network, but must not arrive here.
        assert set(found) <= {"udp: None", "udp"}
        for server in (tcp, udp, abstract, named):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.recv(1) if server is udp else server.accept()


def test_fork_bomb_is_contained(sandbox):
    mark = secrets.token_hex(8)
    code = """
import subprocess, sys
started = 0
def bomb():
    global started
    while started < 500:
        subprocess.Popen([sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)", mark])
        started += 1
attempt("500 processes", bomb)
"""
    outcome = sandbox.run(TRY + code, inputs={"mark": mark}, outputs=["achieved", "started"])
    if outcome.status == "done":  # else it was killed, or stopped by its processor time
        assert outcome.values()["achieved"] == []
        assert outcome.values()["started"] <= sandbox.limits.processes
    assert processes_with(mark) == []


def test_forking_without_end_ends(sandbox):
    outcome = sandbox.run("import os\nwhile True:\n    os.fork()", seconds=2)
    assert outcome.status != "done"
    assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}


def test_memory_is_limited(sandbox):
    outcome = sandbox.run("data = bytearray(4 << 30)")
    assert outcome.status in ("error", "died")
    assert outcome.status == "died" or "MemoryError" in outcome.detail


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True: pass", "a plain loop"),
        ("import time; time.sleep(600)", "uses no processor time"),
        ("import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
         "    except (OSError, ValueError): pass\nwhile True: pass", "ignores signals"),
        ("10 ** 10 ** 10", "one operation, which no signal handler interrupts"),
        ("while True:\n    try:\n        while True: pass\n    except BaseException: pass",
         "catches everything"),
    ],
)  # fmt: skip
def test_infinite_loop_is_ended(sandbox, code, reason):
    assert sandbox.run(code, seconds=1).status in ("timeout", "died"), reason


def test_signals_reach_nobody_outside(sandbox):
    code = """
import resource, signal
for target in (parent, grandparent, -parent):
    attempt(f"signal {target}", lambda: os.kill(target, signal.SIGKILL))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
attempt("affinity", lambda: os.sched_setaffinity(parent, {0}))
attempt("limits", lambda: resource.prlimit(parent, resource.RLIMIT_NPROC, limit) and None)
"""
    limit = resource.getrlimit(resource.RLIMIT_NPROC)
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    pids = {"parent": os.getpid(), "grandparent": os.getppid()}
    assert achieved(sandbox, code, **pids, limit=limit) == []
    assert os.getpriority(os.PRIO_PROCESS, 0) == priority
    sandbox.run("import os, signal; os.kill(-1, signal.SIGKILL); os.kill(0, signal.SIGKILL)")
    sandbox.run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    sandbox.run("import os, signal; os.kill(1, signal.SIGKILL)")
    assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}


@pytest.mark.parametrize("delete", [False, True])
def test_disk_is_limited(sandbox, delete):
    code = """
written, files = 0, []
def fill():
    global written
    while written < 1 << 30:
        files.append(open(f"file{len(files)}", "wb", buffering=0))
        if delete:
            os.unlink(files[-1].name)
        written += files[-1].write(b"x" * (1 << 20))
        if len(files) % 8 == 0:
            time.sleep(0.3)
import time
attempt("filled", fill)
for folder in ("/dev/shm", "/tmp", "/var/tmp", "/run", "/"):
    attempt(folder, lambda: open(folder + "/file", "wb").write(b"x") and None)
"""
    outcome = sandbox.run(TRY + code, inputs={"delete": delete}, outputs=["achieved", "written"])
    assert outcome.values()["achieved"] == []
    assert outcome.values()["written"] <= sandbox.limits.disk


@pytest.mark.parametrize("ending", ["x = 1", "import os; os._exit(0)", "while True: pass"])
def test_detached_child_is_killed_and_holds_nothing_up(sandbox, ending):
    mark = secrets.token_hex(8)
    code = f"""
import os, subprocess, sys, ctypes, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # not to die with its parent
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", "{mark}"])
    os._exit(0)
os.wait()
{ending}
"""
    began = time.monotonic()
    outcome = sandbox.run(code, outputs=["x"], seconds=3)
    assert outcome.status == {"x": "done", "i": "died", "w": "timeout"}[ending[0]]
    assert time.monotonic() - began < 300  # not the child's 600
    assert processes_with(mark) == []


THIEF = """
import ctypes, gc, glob
mine = {os.getpid()}
def search(what, data):
    if token[::-1].encode() in (data.encode() if isinstance(data, str) else data):
        achieved.append(what)
for entry in sorted(glob.glob("/proc/[0-9]*"), key=len):
    pid = int(entry[6:])
    if pid in mine:
        continue
    for name in ("environ", "cmdline"):
        try: search(f"{pid} {name}", open(f"{entry}/{name}", "rb").read())
        except OSError: pass
    attempt(f"ptrace {pid}", lambda: ctypes.CDLL(None).ptrace(16, pid, 0, 0) and 1 / 0)
for pid in {parent, os.getppid(), 1, *range(max(2, os.getpid() - 20), os.getpid() + 20)}:
    if pid in mine:
        continue
    attempt(f"mem {pid}", lambda: open(f"/proc/{pid}/mem", "rb") and None)
    attempt(f"fds {pid}", lambda: os.listdir(f"/proc/{pid}/fd") and None)
here = [frame for frame in (sys._getframe(i) for i in range(3))]
for frame in here:
    search("frames", repr({**frame.f_globals, **frame.f_locals}).replace(token, ""))
search("objects", repr([o for o in gc.get_objects() if isinstance(o, (list, tuple, dict))]))
for folder in ("/tmp", "/dev/shm", os.getcwd()):
    for path in glob.glob(folder + "/**", recursive=True):
        try: search(path, open(path, "rb").read())
        except OSError: pass
"""


def test_answers_held_by_the_parent_or_a_running_scorer_are_out_of_reach(sandbox):
    """As in DS-1000's tests: a scorer that knows the answers waits while a candidate runs."""
    token = secrets.token_hex(16)
    found = []

    def answer(_):
        # The thief knows the token reversed, so that it finds no copy of its own.
        inputs = {"token": token[::-1], "parent": os.getpid()}
        found.extend(achieved(sandbox, THIEF, **inputs))
        return b"done"

    scorer = "keep = token * 1000\nopen('answers', 'w').write(token)\nreply = ask(b'go')"
    outcome = sandbox.run(scorer, inputs={"token": token}, outputs=["reply"], answer=answer)
    assert outcome.values() == {"reply": b"done"}
    assert found == []
