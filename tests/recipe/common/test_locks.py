"""A run's folder has one run at a time, whatever becomes of the run before."""

import os
import subprocess
import sys

import pytest
from rich.console import Console

from recipe.shape_grpo.common import locks
from recipe.shape_grpo.common.locks import locked_run
from tests.waiting import wait_until

QUIET = Console(quiet=True)
HOLD = """
import subprocess, sys
from pathlib import Path
from rich.console import Console
from recipe.shape_grpo.common.locks import locked_run
with locked_run(Path(sys.argv[1]), Console(quiet=True)) as lock:
    child = "import time; time.sleep(float({seconds!r}))"
    subprocess.Popen([sys.executable, "-c", child.format(seconds=sys.argv[2])], pass_fds=[lock])
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold():
    """hold(folder, seconds): a process with the lock, and a child that has it for so long."""
    started = []

    def begin(folder, seconds):
        command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, **pipes))
        assert started[-1].stdout.readline() == b"locked\n"
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def locks_now(folder):
    with locked_run(folder, QUIET):
        return True


def test_the_second_run_is_refused_and_the_first_one_named(hold, tmp_path):
    holder = hold(tmp_path, 0)
    with pytest.raises(
        ValueError, match=rf"{tmp_path} is in use .*process {holder.pid}"
    ) as refused:
        locks_now(tmp_path)
    assert f"write another folder, or end that run first (kill {holder.pid})" in str(refused.value)


@pytest.mark.parametrize("killed", [False, True])
def test_the_lock_goes_with_the_run(hold, tmp_path, killed):
    holder = hold(tmp_path, 0)
    holder.kill() if killed else holder.stdin.close()
    holder.wait()
    assert locks_now(tmp_path)


def test_the_processes_of_a_killed_run_are_waited_for(hold, tmp_path):
    holder = hold(tmp_path, 1)
    holder.kill()
    holder.wait()
    console = Console(record=True, width=200)
    with locked_run(tmp_path, console):
        assert (tmp_path / "lock").read_text().split()[0] == str(os.getpid())
    assert f"Waiting for the last processes of a run in {tmp_path}" in console.export_text()


def test_those_that_stay_are_named(hold, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_TO_WAIT", 0.1)
    holder = hold(tmp_path, 5)
    holder.kill()
    # A killed process that nobody has waited for is no holder either.
    wait_until(lambda: not locks._is_running(holder.pid))
    with pytest.raises(ValueError, match=rf"fuser -v {tmp_path}/lock") as refused:
        locks_now(tmp_path)
    assert f"(kill {holder.pid})" not in str(refused.value)


def test_a_run_on_another_machine_is_named(hold, tmp_path, monkeypatch):
    holder = hold(tmp_path, 0)
    monkeypatch.setattr(locks.socket, "gethostname", lambda: "another")
    with pytest.raises(ValueError, match=rf"process {holder.pid} on .*end that run first\.$"):
        locks_now(tmp_path)


@pytest.mark.parametrize("text", ["", "abc HOST", "-1 HOST", "one two three"])
def test_a_lock_whose_text_is_another_programs_is_respected(hold, tmp_path, text):
    hold(tmp_path, 0)
    (tmp_path / locks.LOCK).write_text(text.replace("HOST", locks.socket.gethostname()))
    with pytest.raises(ValueError, match=r"in use by another run .*end that run first\.$"):
        locks_now(tmp_path)


def test_a_file_system_without_locks_has_runs_too(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    assert locks_now(tmp_path)
