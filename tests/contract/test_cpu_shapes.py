"""Facts about verl in the rows B of ``rows.py`` that take more than the existence of a symbol."""

import inspect

import torch
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from tests.contract.sources import source


def test_B1_our_platform_answers_all_that_verl_asks_of_one():
    from verl.plugin.platform import PlatformBase

    from shape_grpo.verl.cpu.platform import PlatformCPU

    assert PlatformBase.__abstractmethods__ <= set(vars(PlatformCPU))
    assert PlatformCPU().device_name == "cpu"


def test_B2_the_environment_chooses_the_platform_and_the_engine():
    from verl.plugin.platform import platform_manager
    from verl.workers.engine import base

    assert '"VERL_PLATFORM"' in source(platform_manager._detect_platform_name)
    assert '"VERL_ENGINE_DEVICE"' in source(base.EngineRegistry.get_engine_cls)


def test_B3_workers_stand_in_a_table_of_roles():
    from verl.trainer.ppo.v1 import get_trainer_cls

    assert "self.role_worker_mapping[role] = ray.remote(" in source(
        PPOTrainer._init_resource_pool_mgr
    )
    separate = source(get_trainer_cls("separate_async")._init_resource_pool_mgr)
    assert "ray.remote(DetachActorWorker)" in separate


def test_B4_the_replay_buffer_waits_as_long_as_it_is_told():
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    assert "poll_interval" in inspect.signature(ReplayBuffer).parameters
    assert "time.sleep(self.poll_interval)" in source(ReplayBuffer._wait_for_next_poll)
    # Before the worker's table, where it is changed.
    text = source(PPOTrainer.__init__) + source(PPOTrainer._setup) + source(PPOTrainer.init)
    assert text.index("_build_replay_buffer(") < text.index("_init_resource_pool_mgr(")


def test_B5_a_process_group_that_is_open_is_left_alone(monkeypatch):
    from verl.utils.distributed import initialize_global_process_group_ray

    def refuse(*args, **keywords):
        raise AssertionError("opened again")

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "init_process_group", refuse)
    initialize_global_process_group_ray(backend="cpu:gloo")


def test_B6_a_worker_asks_for_its_weights_by_these_keywords():
    from verl.workers.rollout.vllm_rollout import vllm_rollout

    text = source(vllm_rollout)
    assert '"update_weights_from_ipc"' in text
    assert '"use_shm"' in text


def test_B7_a_bucket_comes_with_whether_it_is_the_last():
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver

    text = source(BucketedWeightReceiver.receive_weights)
    assert "on_bucket_received(" in text and "is_last" in text


def test_B8_what_engine_kwargs_say_comes_after_verls_own():
    from verl.workers.rollout.vllm_rollout import vllm_async_server

    text = source(vllm_async_server)
    first = text.index('"worker_extension_cls": ')
    assert first < text.index("**engine_kwargs, }", first)


def test_B9_the_head_of_a_model_is_packed_by_its_method():
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    assert callable(UnquantizedEmbeddingMethod.process_weights_after_loading)


def test_B10_verl_asks_for_the_version_of_a_distribution_called_vllm():
    from verl.workers.rollout import vllm_rollout

    text = source(vllm_rollout)
    assert 'vllm_package_name = "vllm"' in text and "get_version(vllm_package_name)" in text


def test_B11_the_queue_has_as_many_storage_units_as_the_configuration_says(config):
    assert config.transfer_queue.backend.SimpleStorage.num_data_storage_units > 1


def test_B12_copies_of_the_weights_are_made_by_the_copy_handler_for_fsdp2():
    from verl.experimental.separation.engine_workers import DetachActorWorker
    from verl.utils.fsdp_utils import fsdp2_sharded_save_to_cpu

    assert "self.copy_handler(" in source(DetachActorWorker.save_model_to_cpu)
    # ({name: (tensor, ...)}, spec), which our worker copies.
    assert "return cpu_sharded_state, global_spec" in source(fsdp2_sharded_save_to_cpu)


def test_B13_a_module_of_the_configuration_registers_an_engine_in_each_process(config):
    from verl.checkpoint_engine import base

    settings = config.actor_rollout_ref.rollout.checkpoint_engine
    assert "custom_backend_module" in settings and "backend" in settings
    assert source(base).count("import_external_libs(") >= 2
    text = source(base.CheckpointEngineManager)
    # The metadata of every process, and an address to each by the keyword of build_topology.
    assert "build_topology(" in text
    assert "init_process_group" in text
