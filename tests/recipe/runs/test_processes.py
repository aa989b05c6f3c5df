"""Of a run's processes none is left, whoever was killed first."""

import signal
import subprocess
import sys
import time

import pytest

from recipe.shape_grpo.runs.processes import end_session, session_processes

# A process group of its own, as Ray gives its workers.
CHILD = "import os, sys, time; os.setpgrp(); print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + CHILD
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def start():
    started = []

    def begin(child):
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield begin
    for process in started:
        for left in session_processes(process.pid):
            left.kill()
        process.wait()


def wait_until_none_is_left(session):
    deadline = time.monotonic() + 30
    while session_processes(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert session_processes(session) == []


@pytest.mark.parametrize("child", [CHILD, STUBBORN], ids=["willing", "stubborn"])
def test_all_end(start, child):
    process = start(child)
    assert len(session_processes(process.pid)) == 2
    end_session(process.pid, seconds=1)
    wait_until_none_is_left(process.pid)


def test_orphans_end(start):
    process = start(CHILD)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(session_processes(process.pid)) == 1
    end_session(process.pid, seconds=1)
    wait_until_none_is_left(process.pid)


def test_other_sessions_live_on(start):
    ended, other = start(CHILD), start(CHILD)
    end_session(ended.pid, seconds=1)
    assert len(session_processes(other.pid)) == 2
