"""A wait ends when the worker for which it waits has died; with real Ray actors."""

import logging
import signal
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import ray

from shape_grpo.verl import lost_workers
from shape_grpo.verl.lost_workers import (
    explain_missing_responses,
    find_dead,
    stopping_when_workers_die,
    waited_for,
)
from tests.waiting import wait_until

SECONDS = 60
"""Time limit of short waits, so that none of them can stop the test run."""


@ray.remote
class Worker:
    def sleep(self, seconds):
        time.sleep(seconds)


@ray.remote
class Server:
    """Like verl's server around vLLM: it lives, and its engine may be dead."""

    def __init__(self, error=None, words=""):
        self.error = error and type(error, (Exception,), {})(words)

    async def collective_rpc(self, method):
        assert method == "check_health"
        if self.error:
            raise self.error


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(lost_workers, "SECONDS_BETWEEN_CHECKS", 0.1)
    monkeypatch.setattr(lost_workers, "SECONDS_TO_ANSWER", 2)


@pytest.fixture
def start():
    started = []

    def begin(kind, *arguments):
        actor = kind.options(num_cpus=0).remote(*arguments)
        ray.get(actor.__ray_ready__.remote(), timeout=SECONDS)
        started.append(actor)
        return actor

    yield begin
    for actor in started:
        ray.kill(actor)


def kill(actor):
    """Kill an actor and wait until Ray knows that it is dead."""
    ray.kill(actor)
    with pytest.raises(ray.exceptions.ActorDiedError):
        for _ in range(1000):
            ray.get(actor.__ray_ready__.remote(), timeout=SECONDS)
            time.sleep(0.01)


def trainer_of(agent_loops=(), servers=(), rewards=()):
    return SimpleNamespace(
        agent_loop_manager=SimpleNamespace(agent_loop_workers=agent_loops),
        _rollout_server_managers=lambda: [SimpleNamespace(server_handles=servers)],
        reward_loop_manager=SimpleNamespace(reward_loop_worker_handles=rewards),
    )


def test_a_busy_worker_is_not_dead(start):
    worker = start(Worker)
    worker.sleep.remote(5)
    assert find_dead({"A": [worker], "B": [start(Server)]}) is None


def test_there_may_be_no_workers():
    assert find_dead({"A": []}) is None
    before_fit = SimpleNamespace(_rollout_server_managers=list)
    assert not any(waited_for(before_fit).values())


def test_a_dead_worker_is_named_with_rays_reason(start):
    workers = [start(Worker), start(Worker)]
    kill(workers[1])
    reason = find_dead({"A reward worker": workers})
    assert reason.startswith("A reward worker died: ") and "ray.kill" in reason


def test_a_server_whose_engine_died_is_dead_though_it_answers(start):
    server = start(Server, "EngineDeadError", "it encountered an issue")
    reason = find_dead({"An inference server": [start(Server), server]})
    assert reason == "An inference server died: EngineDeadError('it encountered an issue')"


def test_a_server_that_fails_otherwise_is_not_dead(start):
    assert find_dead({"An inference server": [start(Server, "AttributeError")]}) is None


def test_a_worker_that_ray_cannot_reach_for_now_is_not_dead(start, monkeypatch):
    def get(_):
        raise ray.exceptions.ActorUnavailableError("the network is down", None)

    worker = start(Worker)
    monkeypatch.setattr(ray, "get", get)
    assert find_dead({"A": [worker]}) is None


@pytest.mark.parametrize("where", ["asleep", "in Ray"])
def test_a_death_ends_the_wait_whatever_it_is_for(start, where):
    worker, busy = start(Worker), start(Worker)
    with (
        pytest.raises(RuntimeError, match=r"An agent loop worker died: .* its last checkpoint"),
        stopping_when_workers_die(trainer_of(agent_loops=[worker])),
    ):
        ray.kill(worker)
        time.sleep(60) if where == "asleep" else ray.get(busy.sleep.remote(60))


def test_a_lost_interrupt_is_sent_again(start):
    """An interrupt is lost if it comes while C calls Python."""
    worker = start(Worker)
    with (
        pytest.raises(RuntimeError, match="An agent loop worker died"),
        stopping_when_workers_die(trainer_of(agent_loops=[worker])),
    ):
        ray.kill(worker)
        with suppress(KeyboardInterrupt):
            time.sleep(60)
        time.sleep(60)


def test_the_signal_handler_is_restored(start):
    before = signal.getsignal(signal.SIGUSR1)
    with stopping_when_workers_die(trainer_of(agent_loops=[start(Worker)])):
        assert signal.getsignal(signal.SIGUSR1) != before
        time.sleep(0.5)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_failing_check_does_not_stop_the_run(caplog):
    with (
        caplog.at_level(logging.WARNING, "verl"),
        stopping_when_workers_die(trainer_of(agent_loops=["no actor"])),
    ):
        wait_until(lambda: "no longer watched" in caplog.text)


class Buffer:
    def __init__(self, error):
        self.error = error

    def sample(self, step, partition_id, batch_size):
        raise self.error


NO_RESPONSES = RuntimeError("selected terminal groups with no materializable trajectories.")


def test_a_step_without_responses_names_the_dead_worker(start):
    worker = start(Worker)
    kill(worker)
    buffer = Buffer(NO_RESPONSES)
    explain_missing_responses(buffer, trainer_of(rewards=[worker]))
    with pytest.raises(RuntimeError, match=r"No response of this step came\. A reward worker died"):
        buffer.sample(1, "train", 4)


def test_a_step_without_responses_whose_workers_live_says_where_to_look(start):
    buffer = Buffer(NO_RESPONSES)
    explain_missing_responses(buffer, trainer_of(rewards=[start(Worker)]))
    with pytest.raises(RuntimeError, match="Error in _run_prompt"):
        buffer.sample(1, "train", 4)


def test_other_errors_are_left_as_they_are():
    buffer = Buffer(RuntimeError("Unknown status: lost"))
    explain_missing_responses(buffer, trainer_of())
    with pytest.raises(RuntimeError, match=r"^Unknown status: lost$"):
        buffer.sample(1, "train", 4)
