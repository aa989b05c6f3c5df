"""verl's own trainers in this process: without workers, on a queue that is a dictionary."""

import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from verl.trainer.ppo.v1 import get_trainer_cls

from tests.verl.fake_queue import PROMPTS, SIZE, Queue


@pytest.fixture(scope="module")
def recipe_config():
    """The recipe's configuration as it is; copy it before a change."""
    folder = Path(__file__).parents[2] / "recipe/shape_grpo/config"
    with initialize_config_dir(str(folder), version_base=None):
        return compose("shape_grpo_trainer")


@pytest.fixture(scope="module")
def configuration(recipe_config):
    config = recipe_config.copy()
    config.data.train_batch_size = PROMPTS
    config.actor_rollout_ref.actor.ppo_mini_batch_size = PROMPTS
    config.actor_rollout_ref.rollout.n = SIZE
    return config


@pytest.fixture
def queue(monkeypatch):
    return Queue(monkeypatch)


@pytest.fixture
def make_trainer(configuration):
    """make_trainer(mode, **options of algorithm.shape_grpo) -> a trainer without workers."""

    def make(mode="shape_grpo", filter_groups=False, **options):
        config = configuration.copy()
        config.trainer.v1.trainer_mode = mode
        config.algorithm.filter_groups = {"enable": filter_groups, "metric": "reward"}
        config.algorithm.shape_grpo.update({"log_samples_every": 0, **options})
        trainer = get_trainer_cls(mode)(config)
        trainer.global_steps, trainer.timing_raw = 1, {}
        trainer.replay_buffer.poll_interval = 0
        return trainer

    return make


@pytest.fixture
def run_step(queue):
    """run_step(trainer, records a response, updates=1): one step of verl; what it logs."""
    uids = (f"uid{number}" for number in itertools.count())

    def run(trainer, records, updates=1):
        groups = [records[first : first + SIZE] for first in range(0, len(records), SIZE)]
        trainer.parameter_sync_step = updates

        def update(metrics, timing_raw, prompts):
            keys = []
            for group in groups[:prompts]:
                uid = next(uids)
                queue.add_group(uid, group)
                keys += [f"{uid}_{session}_0" for session in range(len(group))]
            del groups[:prompts]
            return trainer._compute_advantage(queue.kv_batch_put(keys, "train"), metrics)

        trainer.prepare_step, trainer._step_once = dict, update
        metrics = {}
        return trainer.step(metrics, {}), metrics

    return run
