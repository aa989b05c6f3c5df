"""What verl passes and where it looks: what each row of ``rows.py`` says beyond a symbol."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
from contextvars import ContextVar
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
import verl
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo import core_algos, ray_trainer
from verl.trainer.ppo.v1 import AgentLoopManagerTQ, AgentLoopWorkerTQ, get_trainer_cls
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from tests.contract.sources import source

AgentLoopWorker = AgentLoopWorkerTQ.__ray_actor_class__


def run(code, **environment):
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_A1_plugins_are_loaded_at_import_and_know_the_version():
    code = "import json, sys, verl; print(json.dumps('shape_grpo.plugin' in sys.modules))"
    assert run(code)
    text = inspect.getsource(verl)
    assert text.index("__version__ =") < text.index('group="verl.plugins"')


def test_A5_A6_A7_an_estimator_gets_rewards_a_mask_and_the_groups_of_all_rows(monkeypatch):
    """In the caller's context, by these names alone, in the order of the keys."""
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    context, seen = ContextVar("context"), {}

    def estimator(**arguments):
        seen.update(arguments, context=context.get(None))
        return torch.ones(3, 2), torch.zeros(3, 2)

    monkeypatch.setitem(core_algos.ADV_ESTIMATOR_REGISTRY, "no_member_of_the_enum", estimator)
    data = DataProto.from_single_dict(
        {
            "token_level_rewards": torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]]),
            "response_mask": torch.ones(3, 2, dtype=torch.long),
            "uid": np.array(["a", "a", "b"], dtype=object),
        }
    )
    context.set("the caller's")
    data = compute_advantage_for_multi_trajectories(
        data,
        batch_keys=["a_0_1", "a_0_0", "b_0_0"],
        adv_estimator="no_member_of_the_enum",
        config={"name": "algorithm"},
    )
    assert seen.pop("context") == "the caller's"
    assert set(seen) == {"token_level_rewards", "response_mask", "config", "index"}
    assert seen["token_level_rewards"][:, 1].tolist() == [1, 2, 3]
    assert seen["index"].tolist() == ["a", "a", "b"] and seen["index"].dtype == object
    assert seen["config"] == {"name": "algorithm"}
    assert data.batch["advantages"].eq(1).all() and data.batch["returns"].eq(0).all()


def test_A8_the_step_computes_advantages_once_and_by_itself():
    step = source(PPOTrainer._step_once)
    assert step.count("batch = self._compute_advantage(batch, metrics=metrics)") == 1
    assert "ray.remote" not in source(PPOTrainer._compute_advantage)


def test_A10_verls_three_trainers_have_these_names():
    names = [get_trainer_cls(m).__name__ for m in ("sync", "colocate_async", "separate_async")]
    assert names == ["PPOTrainerSync", "PPOTrainerColocateAsync", "PPOTrainerSeparateAsync"]


def test_A11_the_mode_is_read_in_the_constructor_and_compared_with_sync():
    assert "self.trainer_mode = self.config.trainer.v1.trainer_mode" in source(PPOTrainer.__init__)
    assert 'if self.trainer_mode == "sync"' in source(PPOTrainer._build_replay_buffer)


def test_A12_the_task_runner_makes_the_trainer_that_is_named():
    from verl.trainer.main_ppo import TaskRunnerV1

    runner = TaskRunnerV1.__ray_actor_class__
    text = source(runner.run)
    assert "get_trainer_cls(config.trainer.v1.trainer_mode)" in text
    assert "trainer_cls(config=config)" in text


def test_A14_keys_end_with_the_output_and_tags_tell_its_length():
    text = source(AgentLoopWorker._agent_loop_postprocess)
    assert 'f"{uid}_{session_id}_{i}"' in text
    assert '"response_len": response_len' in text


def test_A15_rows_that_pad_a_batch_are_marked():
    from verl.trainer.ppo import padding_utils

    text = source(padding_utils.construct_minimal_padding_template)
    assert "is_padding=True" in text and "response_len=1" in text


QUEUE = """
import json, ray, torch, transfer_queue as tq
from hydra import compose, initialize_config_module
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
with initialize_config_module("verl.trainer.config", version_base=None):
    config = compose("ppo_trainer").transfer_queue
config.enable = True
config.backend.SimpleStorage.num_data_storage_units = 1
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
tq.init(config)
keys = ["a_0_0", "b_0_0", "c_0_0"]
rows = [
    {"responses": torch.arange(n + 1), "extra_fields": {"reward_extra_info": {"n": n, "a": "[1]"}}}
    for n in range(3)
]
tags = [{"response_len": n + 1} for n in range(3)]
tq.kv_batch_put(
    keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(rows), tags=tags
)
def read(keys):
    data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["extra_fields"])
    return list(data["extra_fields"])
nested = torch.nested.as_nested_tensor([torch.ones(n + 1) for n in range(3)], layout=torch.jagged)
put = tq.kv_batch_put(
    keys=keys, partition_id="train",
    fields=__import__("tensordict").TensorDict({"advantages": nested}, batch_size=3),
)
facts = {"many": read(["c_0_0", "a_0_0"]), "one": read(["b_0_0"])}
facts |= {"keys": put.keys, "tags": put.tags, "partition": put.partition_id}
tq.close()
ray.shutdown()
print(json.dumps(facts))
"""


def test_A9_A16_A19_A20_rows_come_from_the_queue_as_they_were_put():
    facts = run(QUEUE, RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    numbers = [fields["reward_extra_info"]["n"] for fields in facts["many"]]
    assert numbers == [2, 0]
    assert facts["one"] == [{"reward_extra_info": {"n": 1, "a": "[1]"}}]
    assert facts["keys"] == ["a_0_0", "b_0_0", "c_0_0"] and facts["partition"] == "train"
    assert [tag["response_len"] for tag in facts["tags"]] == [1, 2, 3]


@pytest.mark.parametrize(
    "key",
    [
        *("algorithm.adv_estimator", "algorithm.use_kl_in_reward"),
        *("algorithm.norm_adv_by_std_in_grpo", "algorithm.filter_groups"),
        *("trainer.use_v1", "trainer.v1.trainer_mode", "trainer.device", "trainer.n_gpus_per_node"),
        *("reward.reward_manager.name", "reward.reward_model.enable"),
        *("reward.reward_model.enable_resource_pool", "reward.custom_reward_function.path"),
        *("data.train_batch_size", "data.train_files", "data.custom_cls.path"),
        *("data.max_response_length", "data.max_prompt_length", "data.train_max_samples"),
        *("actor_rollout_ref.rollout.response_length", "actor_rollout_ref.rollout.n"),
        "actor_rollout_ref.model.path",
        *("actor_rollout_ref.actor.ppo_mini_batch_size", "actor_rollout_ref.actor.use_dynamic_bsz"),
        *("actor_rollout_ref.actor.ppo_max_token_len_per_gpu", "actor_rollout_ref.actor.strategy"),
        "actor_rollout_ref.actor.policy_loss.loss_mode",
    ],
)
def test_A29_a_key_that_is_read_is_there(config, key):
    parent, _, name = key.rpartition(".")
    assert name in OmegaConf.select(config, parent)


def test_A29_the_algorithm_takes_a_block_of_another_package(config):
    changed = config.copy()
    OmegaConf.update(changed, "algorithm.shape_grpo", {"allocator": "uniform"}, force_add=True)
    assert changed.algorithm.shape_grpo.allocator == "uniform"


def test_A30_loss_modes_and_the_filters_metric_are_looked_up_by_these_names():
    assert set(core_algos.POLICY_LOSS_REGISTRY) >= {"vanilla", "geo_mean"}
    text = source(PPOTrainer._resolve_filter_groups_metric)
    assert '"filter_groups"' in text and '"metric"' in text
    from verl.trainer.ppo.v1 import replay_buffer

    # What a response is filtered by without a key of that name.
    assert replay_buffer.FILTER_GROUPS_REWARD_METRIC == "reward"


def test_A31_metrics_of_this_package_are_averaged_over_updates_by_responses():
    from verl.trainer.ppo.v1.utils import MetricsAggregator

    aggregator = MetricsAggregator()
    for value, count in ((1.0, 10), (4.0, 20)):
        aggregator.add_step_metrics({"shape_grpo/candidates_per_response": value}, count)
    metrics = aggregator.get_aggregated_metrics()
    assert metrics["shape_grpo/candidates_per_response"] == pytest.approx(3.0)


def test_A32_verl_checks_its_configuration_last_before_ray():
    from verl.trainer import main_ppo

    # The name of the module: there the plugin's wrapping is seen only if it comes first.
    assert main_ppo.validate_config.__wrapped__.__module__ == "verl.utils.config"
    text = source(main_ppo.main.__wrapped__)
    assert text.index("validate_config(") < text.index("run_ppo(")
    assert "ray.init(" in source(main_ppo.run_ppo)


def test_A34_the_configuration_is_a_file_of_the_package(config):
    from shape_grpo.verl.keys import config_folder

    assert (config_folder() / "_generated_ppo_trainer.yaml").is_file()
    assert {"algorithm", "reward", "trainer", "transfer_queue"} <= set(config)


def test_A35_a_manager_starts_the_class_of_workers_that_it_names(monkeypatch):
    manager = object.__new__(AgentLoopManagerTQ)
    started = []

    class Worker:
        @classmethod
        def options(cls, **options):
            started.append(options)
            return SimpleNamespace(remote=lambda *args, **keywords: "a worker")

    monkeypatch.setattr(ray, "nodes", lambda: [
        {"Alive": True, "NodeID": "0" * 56, "Resources": {"CPU": 1}}
    ])  # fmt: skip
    manager.agent_loop_workers_class = Worker
    agent = SimpleNamespace(num_workers=2)
    manager.rollout_config = SimpleNamespace(agent=agent)
    for name in ("config", "llm_client", "teacher_client", "reward_loop_worker_handles"):
        setattr(manager, name, None)
    asyncio.run(manager._init_agent_loop_workers())
    assert len(started) == 2 and manager.agent_loop_workers == ["a worker"] * 2
    assert "_compute_score(outputs, kwargs=kwargs)" in source(
        AgentLoopWorker._agent_loop_postprocess
    )


def test_A36_all_groups_that_are_dropped_go_through_one_method():
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

    assert "self._clear_groups(partition_id, " in source(ReplayBuffer._evict_terminal_groups)
    assert ReplayBufferAsync._evict_terminal_groups is ReplayBuffer._evict_terminal_groups
    text = source(ReplayBuffer._clear_groups)
    assert 'key.split("_")[0] in uids' in text and "self.partitions[partition_id]" in text
    assert "return sampler_cls(" in source(PPOTrainer._build_replay_buffer)


def test_A43_a_trainer_waits_for_these_workers_and_says_when_nothing_came():
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
    from verl.workers.rollout.llm_server import LLMServerManager
    from vllm.v1.engine.exceptions import EngineDeadError
    from vllm.v1.worker.worker_base import WorkerBase

    from shape_grpo.verl.lost_workers import NO_RESPONSE

    assert NO_RESPONSE in source(ReplayBuffer.sample)
    assert "self.server_handles = [" in source(LLMServerManager._initialize_llm_servers)
    separate = get_trainer_cls("separate_async")
    assert "standalone_server_manager" in source(separate._rollout_server_managers)
    assert "self.reward_loop_manager = RewardLoopManager(" in inspect.getsource(PPOTrainer)
    # What is asked of an engine, and what one that is dead answers.
    assert WorkerBase.check_health and EngineDeadError.__name__ == "EngineDeadError"
    # Batches are given out without waiting, so nobody else sees that a worker has died.
    assert "without waiting for the results" in source(AgentLoopWorker.generate_sequences)


def test_A38_rollouts_are_written_by_keywords_with_the_keys_as_uids():
    text = source(PPOTrainer._log_rollout_data)
    assert "self._dump_generations( inputs=" in text
    assert 'reward_extra_infos_dict = {"uid": [batch.keys[' in text
    assert "self._dump_generations( inputs=" in source(PPOTrainer._validate)


def test_A39_the_engine_asks_for_trl_in_one_place_for_one_class():
    from verl.models.transformers import monkey_patch

    text = source(monkey_patch)
    assert text.count("is_trl_available()") == 1
    assert "AutoModelForCausalLMWithValueHead" in source(monkey_patch.apply_monkey_patch)


def test_A44_verls_logger_has_its_handler_before_the_trainer_is_imported():
    from verl.trainer import main_ppo

    text = inspect.getsource(main_ppo)
    first = text.index("        configure_verl_logging()")
    assert first < text.index("get_trainer_cls(config.trainer.v1.trainer_mode)")


def test_A40_a_step_is_made_of_updates_whose_metrics_are_averaged():
    text = source(PPOTrainer.step)
    assert "self.parameter_sync_step" in text and "self._step_once(" in text
    assert "metrics.update(" in text
    assert "self.step(" in source(PPOTrainer.fit)
    # The estimator is told no fields but these two of a batch.
    assert '"response_mask"' in source(ray_trainer.compute_advantage)
