"""A reward function that hangs, in every way that one can."""

import asyncio
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from shape_grpo.rewards import EveryThreadHangs, RewardCalls, RewardTimeout
from shape_grpo.rewards.calls import MOST_HANGING


@pytest.fixture
def release():
    """Set at the end of a test, so that what hangs in it returns."""
    event = threading.Event()
    yield event
    event.set()


def outcomes(calls, *texts):
    """What came of calls at the same time: a result or an exception each."""

    async def main():
        return await asyncio.gather(*(calls(text=text) for text in texts), return_exceptions=True)

    return asyncio.run(main())


def test_a_call_that_hangs_costs_only_itself(release):
    def function(text):
        return release.wait() if text == "hangs" else text

    good, hung, also_good = outcomes(RewardCalls(function, 1.0, threads=2), "a", "hangs", "b")
    assert (good, also_good) == ("a", "b")
    assert isinstance(hung, RewardTimeout) and "reward_timeout=1 seconds" in str(hung)


def test_the_event_loop_goes_on_while_a_call_hangs(release):
    async def main():
        calls = RewardCalls(lambda text: release.wait(), 600.0)
        hanging = asyncio.ensure_future(calls(text="hangs"))
        await asyncio.sleep(0)
        release.set()
        return await hanging

    assert asyncio.run(main()) is True


def test_a_queue_for_threads_costs_no_time(release):
    """Ten calls on one thread take longer together than the timeout."""
    calls = RewardCalls(lambda text: time.sleep(0.3) or text, 2.0, threads=1)
    assert outcomes(calls, *"abcdefghij") == list("abcdefghij")


def test_calls_may_come_from_one_event_loop_after_another():
    """More calls than threads each time, so that some wait."""
    calls = RewardCalls(lambda text: text, 2.0, threads=1)
    assert outcomes(calls, *"abc") == list("abc")
    assert outcomes(calls, *"def") == list("def")


def test_where_too_many_threads_hang_further_calls_fail_at_once_and_a_late_return_heals(release):
    called = []

    def function(text):
        called.append(text)
        return text if release.is_set() else release.wait()

    calls = RewardCalls(function, 0.3, threads=2, most_hanging=2)

    async def main():
        first = await asyncio.gather(
            *(calls(text=text) for text in "abcdef"), return_exceptions=True
        )
        kinds = [type(error) for error in first]
        # The third may still begin, where the first thread hangs and the second is not late yet.
        late = len(called)
        assert called == list("abc")[:late] and late >= 2
        assert kinds == [RewardTimeout] * late + [EveryThreadHangs] * (6 - late)
        release.set()
        while calls._hanging:
            await asyncio.sleep(0.01)
        return await asyncio.gather(*(calls(text=text) for text in "ghij"))

    assert asyncio.run(main()) == list("ghij")


def test_threads_are_no_more_than_the_pool_and_those_left_behind_however_often_calls_hang(release):
    before = threading.active_count()
    peak = 0

    async def main():
        nonlocal peak
        for _ in range(4):
            gate = threading.Event()
            calls.function = lambda text, gate=gate: gate.wait()
            await asyncio.gather(*(calls(text="hangs") for _ in range(3)), return_exceptions=True)
            calls.function = lambda text: text
            assert await asyncio.gather(calls(text="a"), return_exceptions=True)
            peak = max(peak, threading.active_count() - before)
            gate.set()
            while calls._hanging:
                await asyncio.sleep(0.01)

    calls = RewardCalls(None, 0.1, threads=3, most_hanging=3)
    asyncio.run(main())
    assert peak <= 6


def test_many_more_calls_may_hang_than_there_are_threads(release):
    """A judge that hangs once in twenty calls had ended a run on 8 threads in its second step."""
    calls = RewardCalls(
        lambda text: release.wait() if text == "hangs" else text, 0.1, threads=2, most_hanging=30
    )
    hung = outcomes(calls, *["hangs"] * 20)
    assert {type(error) for error in hung} == {RewardTimeout}
    assert all("reward_calls=processes" in str(error) for error in hung)
    assert outcomes(calls, *"abc") == list("abc")
    assert MOST_HANGING >= 200


def test_an_async_call_that_hangs_is_cancelled():
    cancelled = threading.Event()

    async def function(text):
        try:
            await asyncio.sleep(3600 if text == "hangs" else 0)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return text

    good, hung = outcomes(RewardCalls(function, 1.0), "a", "hangs")
    assert good == "a" and isinstance(hung, RewardTimeout)
    assert cancelled.wait(30)


def test_an_async_call_that_refuses_to_be_cancelled_is_left():
    async def function(text):
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    assert isinstance(outcomes(RewardCalls(function, 0.2), "a")[0], RewardTimeout)


@pytest.mark.parametrize("kind", ["function", "object"])
def test_an_async_call_that_blocks_its_loop_costs_those_beside_it_and_no_later_one(release, kind):
    async def function(text):
        return release.wait() if text == "blocks" else text

    class Judge:
        async def __call__(self, text):
            return await function(text)

    calls = RewardCalls(function if kind == "function" else Judge(), 2.0)
    assert outcomes(calls, "a") == ["a"]
    for _ in range(2):
        # Threads might start a later one first.
        hung = outcomes(calls, "blocks", *["beside"] * (kind == "function"))
        assert {type(error) for error in hung} == {RewardTimeout}
        assert all("blocks the event loop" in str(error) for error in hung)
        assert all("reward_calls=processes" in str(error) for error in hung)
        assert outcomes(calls, *"abc") == list("abc")


def test_event_loops_left_behind_are_no_more_than_may_hang(release):
    async def function(text):
        return release.wait()

    calls = RewardCalls(function, 0.1, most_hanging=1)
    before = threading.active_count()
    for _ in range(3):
        assert isinstance(outcomes(calls, "a")[0], RewardTimeout)
    assert threading.active_count() <= before + 2


def test_an_async_call_that_only_takes_long_keeps_its_loop(monkeypatch):
    monkeypatch.setattr("shape_grpo.rewards.calls.PING_SECONDS", 60.0)

    async def function(text):
        loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(3600 if text == "hangs" else 0)
        return text

    loops = set()
    calls = RewardCalls(function, 0.3)
    (hung,) = outcomes(calls, "hangs")
    assert "blocks the event loop" not in str(hung)
    assert outcomes(calls, "a") == ["a"] and len(loops) == 1


class AsyncObject:
    async def __call__(self, text):
        await asyncio.sleep(3600 if text == "hangs" else 0)
        return text


def wrapped(text):
    """As a decorator leaves an async function."""
    return AsyncObject()(text)


async def as_generator(text):
    return (each for each in text)


@pytest.mark.parametrize(
    "function",
    [AsyncObject(), AsyncObject().__call__, partial(AsyncObject()), wrapped, partial(wrapped)],
    ids=["object", "method", "partial of an object", "decorated", "partial of a decorated one"],
)
def test_whatever_returns_an_awaitable_is_awaited_in_time(function):
    good, hung = outcomes(RewardCalls(function, 1.0), "a", "hangs")
    assert good == "a" and isinstance(hung, RewardTimeout)


def test_an_awaitable_holds_no_thread():
    """All of them at once, on one thread: each waits for the last."""
    started = []

    async def function(text):
        started.append(text)
        while len(started) < 10:
            await asyncio.sleep(0.01)
        return text

    calls = RewardCalls(lambda text: function(text), 600.0, threads=1)
    assert outcomes(calls, *"abcdefghij") == list("abcdefghij")


def test_generators_are_read_in_time(release):
    def generator(text):
        yield release.wait() if text == "hangs" else text

    good, hung = outcomes(RewardCalls(generator, 1.0), "a", "hangs")
    assert good == ["a"] and isinstance(hung, RewardTimeout)
    assert outcomes(RewardCalls(as_generator, 1.0), "ab") == [["a", "b"]]


def stop(text):
    return next(iter([]))


def leave(text):
    sys.exit(1)


async def leave_async(text):
    sys.exit(1)


async def cancel_itself(text):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (stop, "StopIteration, which no future may hold"),
        (leave, "SystemExit, which would end the reward worker"),
        (leave_async, "SystemExit out of a task"),
        (cancel_itself, "a cancellation, which would spread to the whole response"),
    ],
)
def test_what_would_tear_the_event_loop_is_an_ordinary_error(function, reason):
    (error,) = outcomes(RewardCalls(function, 60.0), "a")
    assert type(error) is RuntimeError, reason


def test_the_functions_own_timeout_is_its_own():
    def function(text):
        raise TimeoutError("the judge")

    (error,) = outcomes(RewardCalls(function, 60.0), "a")
    assert type(error) is TimeoutError and str(error) == "the judge"


@pytest.mark.parametrize("kind", ["", "async "])
def test_the_process_ends_though_a_call_hangs(kind):
    script = f"""
import asyncio, time
from shape_grpo.rewards import RewardCalls, RewardTimeout
{kind}def hang(): time.sleep(3600)
try:
    asyncio.run(RewardCalls(hang, 0.1)())
except RewardTimeout:
    print("timed out")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "timed out\n"), done.stderr
