"""Of a run's processes none is left, whoever was killed first."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import pytest

from recipe.shape_grpo.runs import processes
from recipe.shape_grpo.runs.processes import SHARED_MEMORY, WholeSession, session_processes
from tests.waiting import wait_until

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


SHARING = """
import sys, time
from multiprocessing.shared_memory import SharedMemory
print("up", flush=True)
sys.stdin.readline()
mine, theirs = SharedMemory(create=True, size=100), SharedMemory(name=sys.argv[1])
print(mine.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def start():
    started = []

    def begin(program, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout.readline() == b"up\n"
        return process

    yield begin
    for process in started:
        for left in session_processes(process.pid):
            left.kill()
        process.wait()


def none_is_left(process):
    return not session_processes(process.pid)


@pytest.mark.parametrize("child", [CHILD, STUBBORN], ids=["willing", "stubborn"])
def test_all_end(start, child):
    process = start(PARENT, child)
    with WholeSession(process, seconds=1):
        assert len(session_processes(process.pid)) == 2
    wait_until(lambda: none_is_left(process))


def test_all_end_where_the_block_fails(start):
    process = start(PARENT, CHILD)
    with pytest.raises(KeyboardInterrupt), WholeSession(process, seconds=1):
        raise KeyboardInterrupt
    wait_until(lambda: none_is_left(process))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_cleans_to_the_end_where_it_is_interrupted_again(start, number, monkeypatch, capsys):
    """Ctrl-C, and Ctrl-C again while a process that ignores SIGTERM is given its time."""
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    process = start(PARENT, STUBBORN)
    segment = SharedMemory(create=True, size=100)
    whole = WholeSession(process, seconds=1)
    wait = processes.psutil.wait_procs

    def interrupted(*arguments, **options):
        for _ in range(2):
            os.kill(os.getpid(), number)
        return wait(*arguments, **options)

    monkeypatch.setattr(processes.psutil, "wait_procs", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), whole:
            whole._mapped.add(segment.name)
            whole._there_before.discard(segment.name)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        wait_until(lambda: none_is_left(process))
        assert not (SHARED_MEMORY / segment.name).exists()
    finally:
        segment.close()
        resource_tracker.unregister(segment._name, "shared_memory")
    said = capsys.readouterr().err
    assert said.count("Still ending the run's processes") == 2 and "(up to 1 s)" in said
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_an_interruption_of_the_cleaning_alone_is_not_lost(start, number, raised, monkeypatch):
    process = start(PARENT, CHILD)
    wait = processes.psutil.wait_procs

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), number)
        return wait(*arguments, **options)

    monkeypatch.setattr(processes.psutil, "wait_procs", interrupted)
    with pytest.raises(raised), WholeSession(process, seconds=1):
        pass
    wait_until(lambda: none_is_left(process))


def test_orphans_end(start):
    process = start(PARENT, CHILD)
    with WholeSession(process, seconds=1):
        process.kill()
        process.wait()
        assert len(session_processes(process.pid)) == 1
    wait_until(lambda: none_is_left(process))


def test_other_sessions_live_on(start):
    ended, other = start(PARENT, CHILD), start(PARENT, CHILD)
    with WholeSession(ended, seconds=1):
        pass
    assert len(session_processes(other.pid)) == 2


def test_its_shared_memory_goes_and_that_of_others_stays(start, monkeypatch):
    """Even where a process is killed together with its resource tracker, as Ray does."""
    monkeypatch.setattr(processes, "SECONDS_BETWEEN_LOOKS", 0.1)
    theirs = SharedMemory(create=True, size=100)
    try:
        process = start(SHARING, theirs.name)
        whole = WholeSession(process, seconds=1)
        with whole:
            process.stdin.write(b"\n")
            process.stdin.flush()
            mine = process.stdout.readline().decode().strip()
            wait_until(lambda: {mine, theirs.name} <= whole._mapped)
            for each in session_processes(process.pid):
                each.kill()
            wait_until(lambda: none_is_left(process))
            assert (SHARED_MEMORY / mine).exists()
        assert not (SHARED_MEMORY / mine).exists()
        assert (SHARED_MEMORY / theirs.name).exists()
    finally:
        theirs.close()
        theirs.unlink()
