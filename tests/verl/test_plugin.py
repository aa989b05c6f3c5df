"""What `import verl` finds, read in fresh processes, as verl hides the failures of a plugin."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

FACTS = """
import json, os, sys
import verl
facts = {"loaded": sorted(m for m in sys.modules if m.startswith("shape_grpo"))}
from importlib.metadata import version
from verl.plugin.platform import get_platform
facts["platform"] = get_platform().device_name
facts["engine"] = os.environ.get("VERL_ENGINE_DEVICE")
if facts["platform"] == "cpu":
    facts["vllm"] = version("vllm")
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
modes = ("shape_grpo", "shape_grpo_colocate_async", "shape_grpo_separate_async")
trainers = [get_trainer_cls(mode) for mode in modes]
facts["verl_modes"] = [trainer.verl_trainer_mode for trainer in trainers]
facts["cpu_workers"] = [hasattr(trainer, "worker_cls") for trainer in trainers]
facts["estimator"] = get_adv_estimator_fn("shape_grpo").__name__
facts["manager"] = get_reward_manager_cls("multi_candidate").__name__
print(json.dumps(facts))
"""


def run(code, **environment):
    """Last line of standard output of `code` in a fresh interpreter."""
    # The plugin itself sets such variables in the process that runs the tests.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["cpu", "nvidia"])
def facts(request):
    return run(FACTS, VERL_PLATFORM=request.param)


def test_the_entry_point_loads():
    (entry_point,) = (e for e in entry_points(group="verl.plugins") if e.name == "shape_grpo")
    assert entry_point.load().__name__ == "shape_grpo.plugin"


def test_importing_the_package_loads_neither_torch_nor_verl():
    code = (
        "import json, shape_grpo, sys\n"
        "print(json.dumps([m for m in ('torch', 'verl', 'numpy') if m in sys.modules]))"
    )
    assert run(code) == []


def test_import_verl_loads_the_plugin_and_leaves_the_heavy_rooms_alone(facts):
    light = ["shape_grpo", "shape_grpo.plugin", "shape_grpo.verl", "shape_grpo.verl.cpu"]
    cpu = ["shape_grpo.verl.cpu.platform", "shape_grpo.verl.cpu.vllm_metadata"]
    assert facts["loaded"] == (light + cpu if facts["platform"] == "cpu" else light)


def test_every_name_is_known_where_verl_looks_it_up(facts):
    assert facts["estimator"] == "compute_shape_grpo_advantage"
    assert facts["manager"] == "MultiCandidateRewardManager"
    assert facts["verl_modes"] == ["sync", "colocate_async", "separate_async"]


def test_the_cpu_backend_is_off_unless_asked_for(facts):
    on_cpu = facts["platform"] == "cpu"
    assert facts["cpu_workers"] == [on_cpu] * 3
    assert facts["engine"] == ("cuda" if on_cpu else None)


def test_the_cpu_wheel_answers_for_vllm(facts):
    if facts["platform"] == "cpu":
        assert facts["vllm"].endswith("+cpu")
