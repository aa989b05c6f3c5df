"""A wait for responses ends when nobody is left to write them; with real Ray actors."""

import time

import pytest
import ray

from shape_grpo.verl.replay_buffer import Pings, end_where_workers_died


@ray.remote
class Worker:
    def sleep(self, seconds):
        time.sleep(seconds)


class Buffer:
    """Waits for responses that nobody writes, as verl's does; or has none in the end."""

    def __init__(self, error=None):
        self.error = error

    def sample(self, step, partition_id, batch_size):
        if self.error:
            raise self.error
        while True:
            self._wait_for_next_poll(partition_id, 0.0)

    def _wait_for_next_poll(self, partition_id, last):
        time.sleep(0.01)
        return last


NOTHING = RuntimeError("selected terminal groups with no materializable trajectories.")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def worker():
    worker = Worker.options(num_cpus=0).remote()
    ray.get(worker.__ray_ready__.remote())
    yield worker
    ray.kill(worker)


@pytest.fixture
def dead(worker):
    ray.kill(worker)
    return worker


def test_a_worker_that_lives_is_not_dead_however_busy(worker):
    pings = Pings()
    worker.sleep.remote(2)
    assert [pings.find_dead([worker]) for _ in range(20)] == [None] * 20


def test_a_busy_worker_is_asked_once(worker):
    pings = Pings()
    worker.sleep.remote(2)
    pings.find_dead([worker])
    (ping,) = pings._unanswered.values()
    pings.find_dead([worker])
    assert list(pings._unanswered.values()) == [ping]


def test_a_wait_for_a_dead_worker_ends(dead):
    buffer = Buffer()
    end_where_workers_died(buffer, lambda: [dead], list)
    with pytest.raises(RuntimeError, match=r"An agent loop worker died.*last checkpoint.*ray.kill"):
        buffer.sample(1, "train", 4)


def test_a_worker_that_dies_while_it_is_waited_for_ends_the_wait(worker):
    buffer = Buffer()
    end_where_workers_died(buffer, lambda: [worker], list)
    ask = buffer._wait_for_next_poll
    for _ in range(5):
        ask("train", 0.0)
    ray.kill(worker)
    with pytest.raises(RuntimeError, match="An agent loop worker died"):
        buffer.sample(1, "train", 4)


def test_a_step_without_responses_names_the_dead_worker(dead):
    buffer = Buffer(NOTHING)
    end_where_workers_died(buffer, list, lambda: [dead])
    with pytest.raises(
        RuntimeError, match=r"No response of this step came\..*Ray says: .*ray.kill"
    ):
        buffer.sample(1, "train", 4)


def test_a_step_without_responses_whose_workers_live_says_where_to_look(worker):
    buffer = Buffer(NOTHING)
    end_where_workers_died(buffer, list, lambda: [worker])
    with pytest.raises(RuntimeError, match="Error in _run_prompt"):
        buffer.sample(1, "train", 4)


def test_other_errors_are_left_as_they_are(dead):
    buffer = Buffer(RuntimeError("Unknown status: lost"))
    end_where_workers_died(buffer, list, lambda: [dead])
    with pytest.raises(RuntimeError, match=r"^Unknown status: lost$"):
        buffer.sample(1, "train", 4)


def test_a_buffer_of_ones_own_that_waits_in_another_way_is_taken():
    class Own:
        def sample(self, step, partition_id, batch_size):
            return "batch"

    buffer = Own()
    end_where_workers_died(buffer, list, list)
    assert buffer.sample(1, "train", 4) == "batch"
