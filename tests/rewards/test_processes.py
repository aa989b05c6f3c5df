"""Reward functions in processes: what threads cannot bear, and no process that stays."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from omegaconf import OmegaConf

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import (
    RewardCalls,
    RewardCrash,
    RewardFunction,
    RewardTimeout,
    candidate_arguments,
    load_reward_function,
)
from tests.rewards.breaking import breaks
from tests.rewards.test_calls import outcomes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals of Linux")


def in_processes(function, timeout=60.0, threads=1):
    return RewardCalls(function, timeout, threads, processes=True)


def load(folder, code, name="compute_score", file="my_reward.py"):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    function = {"path": str(path), "name": name}
    return load_reward_function(OmegaConf.create({"reward": {"custom_reward_function": function}}))


def is_gone(pid):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


# What works, and where.


def test_the_function_runs_in_the_main_thread_of_one_process_that_stays():
    def where(text):
        import threading

        return os.getpid(), threading.current_thread() is threading.main_thread()

    (first, is_main), (second, _) = outcomes(in_processes(where), "a", "b")
    assert first == second != os.getpid() and is_main


def test_calls_run_at_once_in_as_many_processes_as_asked_for(tmp_path):
    def meet(text):
        (Path(tmp_path) / text).touch()
        while len(os.listdir(tmp_path)) < 3:
            time.sleep(0.01)
        return os.getpid()

    assert len({*outcomes(in_processes(meet, threads=3), *"abc")}) == 3


ALARM = """
import signal
def compute_score(solution_str, **arguments):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(100)
    signal.alarm(0)
    return len(solution_str)
"""
EVENT_LOOP = """
import asyncio
async def length(text):
    return len(text)
def compute_score(solution_str, **arguments):
    return asyncio.get_event_loop().run_until_complete(length(solution_str))
"""
SPAWN = """
import multiprocessing
def length(text):
    return len(text)
def compute_score(solution_str, **arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(length, (solution_str,)).get(timeout=60)
"""
POOL = """
from concurrent.futures import ProcessPoolExecutor
def length(text):
    return len(text)
def compute_score(solution_str, **arguments):
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(length, solution_str).result(timeout=60)
"""
DATACLASS = """
from __future__ import annotations
import pickle
from dataclasses import dataclass
from typing import ClassVar
@dataclass
class Answer:
    kind: ClassVar[int] = 0
    text: str = ""
def compute_score(solution_str, **arguments):
    return len(pickle.loads(pickle.dumps(Answer(solution_str))).text)
"""
ASYNC = """
import asyncio
async def compute_score(solution_str, **arguments):
    await asyncio.sleep(0)
    return len(solution_str)
"""
ASYNC_LOCK = """
import asyncio
lock = asyncio.Lock()
async def compute_score(solution_str, **arguments):
    async with lock:
        await asyncio.sleep(0)
        return len(solution_str)
"""
GENERATOR = """
def compute_score(solution_strs, **arguments):
    for text in solution_strs:
        yield len(text)
"""
OBJECT = """
class Score:
    async def __call__(self, solution_str, **arguments):
        return {"score": len(solution_str), "identity": solution_str}
compute_score = Score()
"""
UNPICKLABLE = """
import threading
lock = threading.Lock()
def compute_score(solution_str, **arguments):
    with lock:
        return len(solution_str)
"""
EVERYWHERE = {"dataclass": DATACLASS, "async": ASYNC, "async_lock": ASYNC_LOCK, "pool": POOL,
              "generator": GENERATOR, "object": OBJECT, "unpicklable": UNPICKLABLE}  # fmt: skip
IN_PROCESSES = {"alarm": ALARM, "event_loop": EVENT_LOOP, "spawn": SPAWN}

ROW = {
    "data_source": "mine",
    "reward_model": {"ground_truth": np.array(["x"], dtype=object)},
    "extra_info": {"index": np.int64(3), "vector": np.ones(3)},
}


def scores(function, reward_calls, **options):
    """The rewards of the candidates a and bb, or the first failure."""
    from shape_grpo.candidates import Candidate, CandidateSet

    config = ShapeGRPOConfig(reward_calls=reward_calls, **options)
    asked = RewardFunction(function, config, {"scale": 2}, log_failures=False, threads=2)
    found = CandidateSet.from_candidates(
        [Candidate("a", 0, 1), Candidate("bb", 1, 3)], [(0, 1), (1, 3)], config
    )
    scored = asyncio.run(asked.score_set(found, partial(candidate_arguments, ROW)))
    return [each.reward for each in scored.results]


@pytest.mark.parametrize("code", [*EVERYWHERE.values(), *IN_PROCESSES.values()],
                         ids=[*EVERYWHERE, *IN_PROCESSES])  # fmt: skip
def test_a_file_in_processes(tmp_path, code):
    assert scores(load(tmp_path, code), "processes") == [1, 2]


@pytest.mark.parametrize("code", EVERYWHERE.values(), ids=EVERYWHERE)
def test_a_file_in_threads(tmp_path, code):
    assert scores(load(tmp_path, code), "threads") == [1, 2]


@pytest.mark.parametrize("code", [ALARM, EVENT_LOOP], ids=["alarm", "event_loop"])
def test_in_threads_the_failure_names_processes(tmp_path, code):
    for failure in scores(load(tmp_path, code), "threads"):
        assert "reward_calls=processes" in failure and "reward_calls=processes" in failure.summary
        assert "(my_reward.py:" in failure.summary


SCALE = """
import pickle
def scale():
    return {}
def compute_score(solution_str, **arguments):
    return pickle.loads(pickle.dumps(scale))() * len(solution_str)
"""


def test_files_of_one_name_do_not_clash(tmp_path):
    both = [load(tmp_path / str(n), SCALE.format(n)) for n in (1, 2)]
    for calls in ("threads", "processes"):
        assert [scores(function, calls) for function in both] == [[1, 2], [2, 4]]


def test_a_file_that_cannot_be_imported_leaves_the_one_before(tmp_path):
    before = load(tmp_path, UNPICKLABLE)
    with pytest.raises(ValueError, match="cannot be imported"):
        load(tmp_path, "1 / 0")
    assert sys.modules[before.__module__].compute_score is before
    with pytest.raises(ValueError, match="cannot be imported"):
        load(tmp_path, "1 / 0", file="other.py")
    assert not any("own_file_other" in name for name in sys.modules)


def test_arguments_and_results_may_hold_arrays():
    def function(text, array, **keywords):
        return {"score": array.sum(), "text": text, "seen": keywords["row"]["vector"]}

    calls = in_processes(function)
    row = SimpleNamespace(text="a", array=np.arange(3), row=ROW["extra_info"])
    result = asyncio.run(calls(**vars(row)))
    assert result["score"] == 3 and result["seen"].tolist() == [1, 1, 1]


# What breaks.


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("exits", RuntimeError, "raised SystemExit"),
        ("leaves", RewardCrash, "ended by exit code 3"),
        ("kills", RewardCrash, "ended by the signal SIGKILL"),
        ("segfaults", RewardCrash, "ended by the signal SIGSEGV"),
        ("alarm", RewardCrash, "ended by the signal SIGALRM"),
        ("holds", RewardTimeout, "did not return in reward_timeout=3 seconds"),
        ("sleeps", RewardTimeout, "did not return in reward_timeout=3 seconds"),
        ("closes", RewardCrash, "process of the reward function ended"),
        ("raises", ValueError, "^bad$"),
        ("unpicklable", TypeError, "returned a list, which cannot be sent"),
    ],
)
def test_a_break_costs_its_call_alone(text, kind, message):
    calls = in_processes(breaks, 3.0)
    good, error, also_good = outcomes(calls, "a", text, "b")
    assert (good, also_good) == ("a", "b") and type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


def test_a_call_that_hangs_leaves_neither_its_process_nor_those_that_it_started(tmp_path):
    def function(text):
        child = subprocess.Popen(["sleep", "1000"])
        (Path(tmp_path) / "pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(1000)

    (error,) = outcomes(in_processes(function, 3.0), "a")
    assert isinstance(error, RewardTimeout)
    pids = [*map(int, (tmp_path / "pids").read_text().split())]
    assert len(pids) == 2 and all(map(is_gone, pids))


def test_an_async_call_that_hangs_is_ended():
    async def function(text):
        await asyncio.sleep(1000 if text == "hangs" else 0)
        return text

    good, hung = outcomes(in_processes(function, 3.0), "a", "hangs")
    assert good == "a" and isinstance(hung, RewardTimeout)


def test_the_traceback_is_that_of_the_process(tmp_path):
    code = "def compute_score(solution_str, **_):\n    return {}[solution_str]"
    for failure in scores(load(tmp_path, code), "processes"):
        assert "my_reward.py" in failure and "return {}[solution_str]" in failure
        assert failure.summary.startswith("KeyError: ")


def test_an_exception_that_cannot_be_sent_is_said_in_words():
    def function(text):
        class Odd(Exception):
            def __init__(self, one, two):
                super().__init__(f"{one} and {two}")

        raise Odd(1, 2)

    (error,) = outcomes(in_processes(function), "a")
    assert type(error) is RuntimeError and str(error) == "Odd: 1 and 2"


def test_a_function_or_an_argument_that_cannot_be_sent_says_so():
    held = threading.Lock()
    (error,) = outcomes(in_processes(lambda text: held.locked()), "a")
    assert isinstance(error, TypeError) and "reward_calls=processes" in str(error)
    with pytest.raises(TypeError, match="arguments of the reward function cannot be sent"):
        asyncio.run(in_processes(breaks)(text=held))


def test_a_file_that_fails_in_the_process_alone_says_so(tmp_path):
    only_here = f"import os\nif os.getpid() != {os.getpid()}:\n    raise OSError('no server')\n"
    for failure in scores(load(tmp_path, only_here + UNPICKLABLE), "processes"):
        assert "OSError: no server" in failure


# The end.

ENDS = """
import asyncio, os, sys, time
from shape_grpo.rewards import RewardCalls
print("script", flush=True)
def function(text):
    print(os.getpid(), flush=True)
    time.sleep(1000 if text == "busy" else 0)
async def main(text):
    await RewardCalls(function, 600.0, 1, processes=True)(text=text)
"""


def run_script(folder, code):
    """Start the script; its first line is out."""
    file = folder / "train.py"
    file.write_text(ENDS + code)
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert parent.stdout.readline() == "script\n"
    return parent


BUSY = "asyncio.run(main('busy'))"
IDLE = "asyncio.run(main('idle')); print('returned', flush=True)"


@pytest.mark.parametrize(
    ("code", "end"),
    [
        *((BUSY, end) for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
        (f"{IDLE}; time.sleep(1000)", signal.SIGKILL),
        (f"import threading; threading.Timer(5, os._exit, [0]).start(); {BUSY}", None),
        (IDLE, None),
    ],
)
def test_no_process_outlives_its_parent(tmp_path, code, end):
    parent = run_script(tmp_path, code)
    pid = int(parent.stdout.readline())
    if "returned" in code:
        assert parent.stdout.readline() == "returned\n"
    if end is not None:
        parent.send_signal(end)
    parent.wait(timeout=300)
    assert is_gone(pid)
    parent.stdout.close()


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    """As most scripts that train with TRL are: multiprocessing would run it in each process."""
    parent = run_script(tmp_path, IDLE)
    said, _ = parent.communicate(timeout=300)
    assert parent.returncode == 0 and said.split()[1:] == ["returned"]


def test_a_process_that_is_asked_nothing_ends(monkeypatch):
    monkeypatch.setattr("shape_grpo.rewards.calls.IDLE_SECONDS", 0.5)
    calls = in_processes(lambda text: os.getpid())
    (first,) = outcomes(calls, "a")
    assert is_gone(first)
    (second,) = outcomes(calls, "a")
    assert second != first
