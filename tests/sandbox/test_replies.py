"""Runs that end early, reply nonsense, print too much, or leave something behind."""

import os
import struct
import sys

import pytest

from shape_grpo.sandbox import Outcome


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.exit(0)", "an exception that except Exception lets through"),
        ("import os; os._exit(0)", "ends the interpreter at once"),
        ("import os; os.kill(os.getpid(), 9)", "kills itself"),
        ("raise SystemExit(0)", "the same as sys.exit"),
        ("import os; os.close(0); os.closerange(3, 4096)", "closes the sandbox's own pipes"),
        ("import ctypes; ctypes.string_at(0)", "crashes"),
        ("import os; [os.dup2(os.open('/dev/null', os.O_RDWR), fd) for fd in range(3, 200)]",
         "puts something else in their place"),
    ],
)  # fmt: skip
def test_ending_early_is_not_success(sandbox, code, reason):
    outcome = sandbox.run(code + "\nx = 1" if "close" in code else code, outputs=["x"])
    assert outcome.status in ("error", "died", "timeout"), reason


def frame(kind, payload):
    return struct.pack(">cQ", kind, len(payload)) + payload


@pytest.mark.parametrize(
    ("bytes_written", "status", "reason"),
    [
        (frame(b"+", b""), "died", "claims that the sandbox starts again"),
        (frame(b"?", b"x"), "died", "asks where nothing answers"),
        (frame(b"!", b"x"), "died", "an unknown kind of message"),
        (frame(b"x", b"\xff" * 9999), "error", "an error that is no text"),
        (struct.pack(">cQ", b"=", 1 << 60), "output", "announces more than the limit"),
        (b"=", "timeout", "stops in the middle of a header"),
    ],
)
def test_forged_replies_fail_or_are_only_claims(sandbox, bytes_written, status, reason):
    code = """
import os, time
for fd in range(3, 256):
    try: os.write(fd, data)
    except OSError: pass
time.sleep(60)
"""
    assert sandbox.run(code, inputs={"data": bytes_written}, seconds=3).status == status, reason


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"no json", "a reply that cannot be read"),
        (b"[" * 100_000, "nested too deeply to be read"),
        (b'{"x": ' + b'{"is": "tuple", "items": [' * 600 + b"]}" * 600 + b"}", "deep, but read"),
        (b"[]", "a reply without names"),
        (b'{"x": {"is": "os.system"}}', "an unknown type"),
        (b'{"x": "' + b"x" * (1 << 20) + b'"}', "longer than is decoded in this process"),
        (b"9" * 10_000, "a number that takes long to read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_forged_reply_is_one_kind_of_error(reply, reason):
    with pytest.raises(ValueError):
        Outcome("done", reply=reply).values()


def test_output_is_capped(sandbox):
    printed = sandbox.run("while True: print('x' * 10000)")
    assert printed.status == "output"
    assert len(printed.printed) <= 3 * sandbox.limits.output
    assert sandbox.run("x = 'x' * (2 << 20)", outputs=["x"]).status == "output"


def test_environment_and_descriptors_are_scrubbed(sandbox, monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    with open(__file__) as leak:
        os.set_inheritable(leak.fileno(), True)
        code = """
import os
environment = dict(os.environ)
open_files = []
for fd in range(4096):
    try: os.fstat(fd)
    except OSError: continue
    open_files.append(fd)
"""
        outcome = sandbox.run(code, outputs=["environment", "open_files"])
    values = outcome.values()
    assert "API_KEY" not in values["environment"]
    assert "secret" not in str(values["environment"])
    assert len(values["open_files"]) == 5  # 0 to 2, the job, the reply


def test_no_run_sees_another(sandbox):
    sandbox.run("import json; json.loads = None; open('left', 'w').write('x')")
    code = "import json, os; fine = json.loads('1') == 1; left = os.listdir('.')"
    assert sandbox.run(code, outputs=["fine", "left"]).values() == {"fine": True, "left": []}


def test_code_does_not_run_as_root_with_capabilities(sandbox):
    code = """
import ctypes, os
gains = []
for name, deed in {
    "raise its memory limit": lambda: __import__("resource").setrlimit(9, (1 << 40, 1 << 40)),
    "chroot": lambda: os.chroot("."),
    "host name": lambda: __import__("socket").sethostname("mine"),
    "become root": lambda: os.getuid() == 0 or os.setuid(0),
}.items():
    try: deed()
    except (OSError, ValueError): continue
    if name != "become root" or os.getuid() == 0: gains.append(name)
"""
    assert sandbox.run(code, outputs=["gains"]).values() == {"gains": []}


def test_runs_at_the_same_time_share_no_terminals_and_no_lists_of_processes(sandbox):
    """One run sees no trace of what another holds open meanwhile."""
    code = """
import os
held = []
for path in ("/dev/ptmx", "/dev/pts/ptmx"):
    try: held.append(os.open(path, os.O_RDWR))
    except OSError: pass
if waits: ask(b"")
seen = [os.listdir("/dev/pts"), os.listdir("/proc"), os.listdir("/dev/shm")]
"""
    others = []

    def answer(_):
        others.append(sandbox.run(code, inputs={"waits": False}, outputs=["seen"]).values())
        return b""

    outcome = sandbox.run(code, inputs={"waits": True}, outputs=["seen"], answer=answer)
    assert [outcome.values(), *others] == 2 * [{"seen": [[], [], []]}]


def test_python_is_this_one(sandbox):
    code = "import sys; version = sys.version"
    assert sandbox.run(code, outputs=["version"]).values() == {"version": sys.version}
