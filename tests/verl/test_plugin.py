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
names = ("shape_grpo", "shape_grpo_rollouts")
facts["estimators"] = [get_adv_estimator_fn(name).__name__ for name in names]
facts["manager"] = get_reward_manager_cls("multi_candidate").__name__
print(json.dumps(facts))
"""


def run(code, *arguments, **environment):
    """Last line of standard output of `code` in a fresh interpreter."""
    # The plugin itself sets such variables in the process that runs the tests.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=["cpu", "nvidia", "+backend=cpu"])
def facts(request):
    """By the environment, or by the switch on the command line alone."""
    if request.param.startswith("+"):
        return run(FACTS, request.param)
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
    names = ["chat_template", "checks", "cpu", "data", "files", "hydra_configs", "keys"]
    names += ["prompts", "trackers", "values", "versions"]
    light = {"shape_grpo", "shape_grpo.plugin", "shape_grpo.registry", "shape_grpo.verl"}
    light |= {"shape_grpo.methods"}
    light |= {f"shape_grpo.verl.{name}" for name in names}
    cpu = {"shape_grpo.verl.cpu.platform", "shape_grpo.verl.cpu.vllm_metadata"}
    assert set(facts["loaded"]) == (light | cpu if facts["platform"] == "cpu" else light)


SILENCED = """
# What verl does first in the process of its trainer, and what vLLM does whenever it is imported.
from verl.utils.logging_utils import configure_verl_logging
from model_hosting_container_standards.logging_config import configure_root_logger
configure_verl_logging()
configure_root_logger()
from shape_grpo.verl import lost_workers, samples, trainer
for room in (lost_workers, samples, trainer):
    room.logger.warning("said by " + room.__name__)
"""


def test_what_the_trainer_warns_of_is_seen_though_vllm_silences_the_root_logger():
    result = subprocess.run(
        [sys.executable, "-c", SILENCED], capture_output=True, text=True, check=True
    )
    for room in ("lost_workers", "samples", "trainer"):
        assert f"said by shape_grpo.verl.{room}" in result.stderr


def test_every_name_is_known_where_verl_looks_it_up(facts):
    ours = ["compute_shape_grpo_advantage", "compute_rollout_advantage"]
    assert facts["estimators"] == ours
    assert facts["manager"] == "MultiCandidateRewardManager"
    assert facts["verl_modes"] == ["sync", "colocate_async", "separate_async"]


def test_the_cpu_backend_is_off_unless_asked_for(facts):
    on_cpu = facts["platform"] == "cpu"
    assert facts["cpu_workers"] == [on_cpu] * 3
    assert facts["engine"] == ("cuda" if on_cpu else None)


def test_the_cpu_wheel_answers_for_vllm(facts):
    if facts["platform"] == "cpu":
        assert facts["vllm"].endswith("+cpu")


BROKEN = """
import json, sys, warnings
from importlib import metadata
broken = json.loads(sys.argv[1])
for name in broken:
    sys.modules[name] = None  # its import fails
version = metadata.version
metadata.version = lambda name: "0.8.0" if name == "verl" else version(name)
caught = []
warnings.simplefilter("always")
warnings.showwarning = lambda message, *_, **__: caught.append(str(message))
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1 import get_trainer_cls
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.utils.config import validate_config
said = {}
for kind, ask in {
    "estimator": lambda: core_algos.get_adv_estimator_fn("shape_grpo")(token_level_rewards=None),
    "rollouts": lambda: core_algos.get_adv_estimator_fn("shape_grpo_rollouts")(config=None),
    "trainer": lambda: get_trainer_cls("shape_grpo")(config=None),
    "manager": lambda: get_reward_manager_cls("multi_candidate")(config=None),
}.items():
    try:
        ask()
    except Exception as error:
        said[kind] = f"{type(error).__name__}: {error}"
grpo = core_algos.get_adv_estimator_fn("grpo").__name__
ours = [message for message in caught if "shape-grpo" in message]
print(json.dumps({"warned": ours, "said": said, "grpo": grpo}))
"""


def test_what_fails_of_this_package_leaves_verl_as_it_is_and_says_why_to_those_who_ask():
    rooms = ["shape_grpo.verl.context", "shape_grpo.verl.reward_manager"]
    facts = run(BROKEN, json.dumps(rooms), VERL_PLATFORM="nvidia")
    assert facts["grpo"] == "compute_grpo_outcome_advantage"
    # The trainer and the estimators need the context.
    assert len(facts["warned"]) == 3
    for message in facts["warned"]:
        assert "verl 0.8.0" in message and "made for verl 0.9.1" in message
        assert message.endswith("verl goes on without it.")
    assert set(facts["said"]) == {"estimator", "rollouts", "trainer", "manager"}
    for kind, message in facts["said"].items():
        assert message.startswith("RuntimeError: shape-grpo "), message
        room = "reward_manager" if kind == "manager" else "context"
        assert f"import of shape_grpo.verl.{room} halted" in message


def test_where_the_checks_themselves_fail_verl_still_checks_its_configuration():
    facts = run(BROKEN, json.dumps(["shape_grpo.verl.keys"]), VERL_PLATFORM="nvidia")
    assert facts["grpo"] == "compute_grpo_outcome_advantage"
    assert any("after verl.utils.config" in message for message in facts["warned"])
