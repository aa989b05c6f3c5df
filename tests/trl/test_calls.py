"""Calls of TRL's reward functions: what they may return, and what a failure costs."""

import asyncio
import functools
import logging
import os
import signal
import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch

from shape_grpo.rewards import BrokenFunction
from tests.trl.test_rewards import RESPONSES, lengths, raises, rewards
from tests.trl.tiny_policy import answer, make_trainer, scored_batch

SCORED = [[1, 2], [3], [], [1, 4]]
MANY = {"max_completion_length": 4000}
"""Settings for long responses."""


class Spy:
    """Counts the calls of a function and how often it is asked about each candidate."""

    def __init__(self, function):
        self.function = function
        self.calls = []
        self.times_asked = Counter()

    def __call__(self, completions, **columns):
        self.calls.append(list(completions))
        self.times_asked.update(completions)
        return self.function(completions, **columns)


def responses_of(count, candidates=8):
    """Responses with candidates that are all different."""
    return [answer(*(f"{n}.{k}" for k in range(candidates))) for n in range(count)]


# What a call may return.


@pytest.mark.parametrize(
    "form",
    [tuple, iter, np.array, torch.tensor, lambda rewards: map(float, rewards)],
    ids=["tuple", "iterator", "array", "tensor", "map"],
)
def test_any_list_in_the_order_of_the_candidates_will_do(tmp_path, form):
    assert rewards(tmp_path, lambda completions, **_: form(lengths(completions))) == SCORED


def test_a_generator_is_read_and_its_failure_is_the_functions(tmp_path):
    def fails_late(completions, **columns):
        for text in completions:
            yield 1 / (text != "ccc")

    assert rewards(tmp_path, fails_late) == [[1, 1], [None], [], [1, 1]]


BROKEN = [
    (lambda texts: [float(sum(map(len, texts)))], "returned 1 rewards, for 5", "one for the batch"),
    (lambda texts: 16.0, r"returned 16\.0, which is no list", "a number for the batch"),
    (lambda texts: np.float64(16), "which is no list", "a number of NumPy"),
    (lambda texts: torch.tensor(16.0), "which is no list", "a tensor without a dimension"),
    (lambda texts: None, "returned None, which is no list", "a forgotten return"),
    (lambda texts: "abcde", "returned 'abcde', which is no list", "a text of the right length"),
    (lambda texts: b"abcde", "which is no list", "bytes are numbers to Python"),
    (lambda texts: dict.fromkeys(range(5)), "which is no list", "a dict of the right length"),
    (lambda texts: {"score": 1.0}, "which is no list", "a dict as for one candidate"),
    (lambda texts: dict.fromkeys(range(5)).keys(), "which is no list", "the keys of a dict"),
    (lambda texts: set(range(5)), "which is no list", "a set has no order"),
    (lambda texts: [[1.0] * 5], "returned 1 rewards, for 5", "a list in a list"),
    (lambda texts: lengths(texts)[1:], "returned 4 rewards, for 5", "one too few"),
    (lambda texts: [*lengths(texts), 1.0], "returned 6 rewards, for 5", "one too many"),
    (lambda texts: [], "returned 0 rewards, for 5", "none"),
]


@pytest.mark.parametrize(("result", "message", "reason"), BROKEN)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_broken_function_ends_the_run_at_once_in_words(tmp_path, result, message, reason, kind):
    calls = []

    def function(completions, **columns):
        calls.append(completions)
        return result(completions)

    async def in_async(**columns):
        return function(**columns)

    with pytest.raises(BrokenFunction, match=message):
        rewards(tmp_path, function if kind == "sync" else in_async, max_error_share=1)
    assert len(calls) == 1, reason


@pytest.mark.parametrize(("result", "message", "reason"), BROKEN)
def test_per_response_it_costs_the_response_and_the_run_ends_by_their_share(
    tmp_path, result, message, reason
):
    def function(completions, **columns):
        return result(completions) if completions != ["ccc"] else [3.0]

    found = rewards(tmp_path, function, per_response=True, max_error_share=1)
    assert found == [[None, None], [3], [], [None, None]], reason
    with pytest.raises(RuntimeError, match=r"(?s)max_error_share.*BrokenFunction.*per_response"):
        rewards(tmp_path, function, per_response=True)


# After a failure.


def less_the_mean(completions, candidate_index, num_candidates, **columns):
    """Compares the candidates of each response; fails on what is bad."""
    if "bad" in completions:
        raise ValueError
    found, start = [], 0
    while start < len(completions):
        stop = start + 1
        while stop < len(completions) and candidate_index[stop] > 0:
            stop += 1
        own = [len(text) for text in completions[start:stop]]
        assert len(own) == num_candidates[start], "a part of a response"
        found += [length - sum(own) / len(own) for length in own]
        start = stop
    return found


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("per_response", [False, True])
def test_a_function_may_compare_the_candidates_of_a_response(tmp_path, place, per_response):
    responses = [answer("a", "bbb")] * 6
    responses[place] = answer("a", "bad", "ccccc")
    found = rewards(tmp_path, less_the_mean, responses, per_response=per_response)
    right = [[-1.0, 1.0]] * 6
    right[place] = [None, None, None]
    assert found == right


@pytest.mark.parametrize("place", [0, 3, 11, 12, 20, 23])
def test_a_bad_candidate_of_192_costs_its_response_and_few_calls(tmp_path, caplog, place):
    @Spy
    def spy(completions, **columns):
        if f"{place}.5" in completions:
            raise ValueError("bad")
        return lengths(completions)

    with caplog.at_level(logging.WARNING):
        found = rewards(tmp_path, spy, responses_of(24), settings=MANY)
    assert [None in each for each in found] == [n == place for n in range(24)]
    assert len(spy.calls) == 1 + 24
    assert spy.times_asked.total() <= 2 * 192 and max(spy.times_asked.values()) <= 2
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    (said,) = [text for text in warnings if "failed for a batch" in text]
    assert "1 of 24 responses have no rewards" in said and "per_response=true" in said


def test_bad_candidates_at_several_places_cost_their_responses(tmp_path):
    bad = {"1.0", "2.7", "9.1", "12.4", "23.0"}
    spy = Spy(lambda completions, **_: 1 / 0 if bad & {*completions} else lengths(completions))
    found = rewards(tmp_path, spy, responses_of(24), settings=MANY)
    assert {n for n, each in enumerate(found) if None in each} == {1, 2, 9, 12, 23}
    assert max(spy.times_asked.values()) <= 2


def test_a_function_that_always_fails_is_called_four_times(tmp_path):
    spy = Spy(lambda completions, **_: 1 / 0)
    with pytest.raises(RuntimeError, match=r"(?s)320 of the last 320 .*ZeroDivisionError"):
        rewards(tmp_path, spy, responses_of(40), settings=MANY)
    assert [len(call) for call in spy.calls] == [320, 8, 8, 8]


def test_a_function_that_takes_no_more_than_100_candidates_gives_all_rewards(tmp_path):
    spy = Spy(lambda texts, **_: 1 / 0 if len(texts) > 100 else lengths(texts))
    found = rewards(tmp_path, spy, responses_of(24), settings=MANY)
    assert all(None not in each for each in found)


def test_under_raise_nothing_is_asked_again(tmp_path):
    spy = Spy(raises)
    with pytest.raises(RuntimeError, match=r"(?s)on_error=raise.*no answer to a"):
        rewards(tmp_path, spy, on_error="raise")
    assert len(spy.calls) == 1


def test_per_response_each_call_holds_one(tmp_path):
    spy = Spy(raises)
    found = rewards(tmp_path, spy, per_response=True, max_error_share=1)
    assert found == [[None, None], [3], [], [None, None]]
    assert sorted(spy.calls) == [["a", "bb"], ["a", "dddd"], ["ccc"]]


def test_per_response_the_calls_wait_for_each_other(tmp_path):
    together = threading.Barrier(3)

    def function(completions, **columns):
        together.wait(timeout=60)
        return lengths(completions)

    assert rewards(tmp_path, function, per_response=True) == SCORED


def test_candidates_that_are_asked_about_later_are_with_the_others_of_their_response(tmp_path):
    """X.T may be a duplicate of x.t or not; it is asked about where the function says."""

    def share(completions, candidate_index, **columns):
        count = Counter(n - index for n, index in enumerate(candidate_index))
        return [
            {"score": 1 / count[n - index], "identity": text}
            for n, (text, index) in enumerate(zip(completions, candidate_index, strict=True))
        ]

    responses = [answer("x.t", "X.T", "abc"), answer("a")]
    assert rewards(tmp_path, share, responses, duplicate="drop")[1] == [1]
    spy = Spy(share)
    rewards(tmp_path, spy, responses, duplicate="floor")
    assert spy.calls == [["x.t", "abc", "a"], ["x.t", "X.T", "abc"]]


# Time.


def hangs_on(bad, gate, seconds=60):
    def function(completions, **columns):
        if bad in completions:
            gate.wait(seconds)
        return lengths(completions)

    return function


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("per_response", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_call_that_hangs_costs_its_response(tmp_path, gate, kind, per_response):
    async def in_async(completions, **columns):
        if "ccc" in completions:
            await asyncio.sleep(3600)
        return lengths(completions)

    function = hangs_on("ccc", gate) if kind == "sync" else in_async
    trainer = make_trainer(
        tmp_path, function, RESPONSES, reward_timeout=1.0, per_response=per_response
    )
    scored_batch(trainer)
    assert [record.rewards for record in trainer.records] == [[1, 2], [None], [], [1, 4]]
    assert "reward_timeout=1 seconds" in trainer.records[1].error


def test_a_run_whose_function_always_hangs_ends(tmp_path, gate):
    with pytest.raises(RuntimeError, match="did not return in reward_timeout="):
        rewards(tmp_path, lambda **_: gate.wait(60), reward_timeout=0.2)


def test_what_would_end_the_process_costs_candidates(tmp_path):
    def leaves(completions, **columns):
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="raised SystemExit"):
        rewards(tmp_path, leaves)


def test_a_trainer_in_a_notebook_has_an_event_loop_already(tmp_path):
    async def cell():
        return rewards(tmp_path, lengths)

    assert asyncio.run(cell()) == SCORED


# Async functions, however they are wrapped.


async def slow(completions, bonus=0, **columns):
    await asyncio.sleep(0)
    return [length + bonus for length in lengths(completions)]


class AsyncObject:
    async def __call__(self, completions, **columns):
        return await slow(completions)

    async def method(self, completions, **columns):
        return await slow(completions)


def decorated(function):
    @functools.wraps(function)
    def call(*arguments, **keywords):
        return function(*arguments, **keywords)

    return call


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self.value


def awaitable(completions, **columns):
    return Later(lengths(completions))


ASYNC = {
    "a function": slow,
    "a callable object": AsyncObject(),
    "a method": AsyncObject().method,
    "partial": functools.partial(slow, bonus=0),
    "partial of an object": functools.partial(AsyncObject()),
    "decorated": decorated(slow),
    "decorated twice": decorated(decorated(slow)),
    "partial of a decorated one": functools.partial(decorated(slow), bonus=0),
    "lambda": lambda **columns: slow(**columns),
    "an awaitable": awaitable,
}


@pytest.mark.parametrize("function", ASYNC.values(), ids=ASYNC)
@pytest.mark.parametrize("per_response", [False, True])
def test_an_async_function_is_awaited_however_it_is_wrapped(tmp_path, function, per_response):
    assert rewards(tmp_path, function, per_response=per_response) == SCORED


@pytest.mark.parametrize("function", ASYNC.values(), ids=ASYNC)
def test_beside_a_sync_one(tmp_path, function):
    assert rewards(tmp_path, [lengths, function]) == [[2, 4], [6], [], [2, 8]]


def test_an_async_generator_is_no_list(tmp_path):
    async def generator(completions, **columns):
        for length in lengths(completions):
            yield length

    with pytest.raises(BrokenFunction, match="async_generator"):
        rewards(tmp_path, generator)


def test_a_decorated_function_that_hangs_costs_its_response(tmp_path):
    async def hangs(completions, **columns):
        await asyncio.sleep(3600 if "ccc" in completions else 0)
        return lengths(completions)

    assert rewards(tmp_path, decorated(hangs), reward_timeout=1.0) == [[1, 2], [None], [], [1, 4]]


# Processes.


@pytest.mark.parametrize("per_response", [False, True])
def test_a_call_that_breaks_its_process_costs_its_response(tmp_path, per_response):
    """A closure, as most functions of a notebook are."""
    gifts = {"a": 10}

    def function(completions, **columns):
        if "ccc" in completions:
            os._exit(3)
        if "dddd" in completions:
            time.sleep(1000)
        signal.alarm(0)
        return [len(text) + gifts.get(text, 0) for text in completions]

    trainer = make_trainer(
        tmp_path, function, RESPONSES, reward_calls="processes", per_response=per_response,
        reward_timeout=5.0, max_error_share=1,
    )  # fmt: skip
    scored_batch(trainer)
    records = trainer.records
    assert [record.rewards for record in records] == [[11, 2], [None], [], [None, None]]
    assert "exit code 3" in records[1].error and "reward_timeout=5" in records[3].error


def test_what_a_function_in_a_process_is_told(tmp_path):
    def function(completions, trainer_state, log_metric=None, **columns):
        assert log_metric is None and set(columns) == {
            "prompts", "completion_ids", "candidate_index", "num_candidates",
        }  # fmt: skip
        return [trainer_state.max_steps] * len(completions)

    found = rewards(tmp_path, function, reward_calls="processes")
    assert len({*found[0]}) == 1 and None not in found[0]


@pytest.mark.parametrize("name", ["a function", "decorated", "a callable object"])
def test_an_async_function_in_a_process(tmp_path, name):
    async def own(completions, **columns):
        await asyncio.sleep(0)
        return [float(len(text)) for text in completions]

    class Object:
        async def __call__(self, **columns):
            return await own(**columns)

    function = {"a function": own, "decorated": lambda **_: own(**_), "a callable object": Object()}
    assert rewards(tmp_path, function[name], reward_calls="processes") == SCORED


def test_in_threads_a_function_with_signals_is_told_of_processes(tmp_path):
    def function(completions, **columns):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        return lengths(completions)

    with pytest.raises(RuntimeError, match=r"main thread(?s:.*)reward_calls=processes"):
        rewards(tmp_path, function)
