"""What `import verl` finds. Each fact is read in a fresh process, as verl hides plugin failures."""

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest


def run(code, **environment):
    """Standard output of `code` in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.split()


def test_the_entry_point_loads():
    (entry_point,) = (e for e in entry_points(group="verl.plugins") if e.name == "shape_grpo")
    assert entry_point.load().__name__ == "shape_grpo.plugin"


def test_importing_the_package_loads_neither_torch_nor_verl():
    code = "import shape_grpo, sys; print([m for m in ('torch', 'verl', 'numpy') if m in sys.modules])"
    assert run(code) == ["[]"]


def test_import_verl_loads_the_plugin_and_leaves_the_heavy_rooms_alone():
    code = (
        "import verl, sys; ours = [m for m in sys.modules if m.startswith('shape_grpo')]; "
        "print(*sorted(ours))"
    )
    expected = ["shape_grpo", "shape_grpo.plugin", "shape_grpo.verl", "shape_grpo.verl.cpu"]
    assert run(code, VERL_PLATFORM="nvidia") == expected


def test_the_names_are_known_where_verl_looks_them_up():
    code = (
        "from verl.trainer.ppo.core_algos import get_adv_estimator_fn as f; "
        "from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls as r; "
        "print(f('shape_grpo').__name__, r('multi_candidate').__name__)"
    )
    assert run(code, VERL_PLATFORM="nvidia") == [
        "compute_shape_grpo_advantage",
        "MultiCandidateRewardManager",
    ]


@pytest.mark.parametrize(
    ("platform", "has_cpu_worker"), [("cpu", "True"), ("nvidia", "False")]
)
def test_trainers_are_registered_and_use_the_cpu_worker_only_if_asked(platform, has_cpu_worker):
    code = (
        "from verl.trainer.ppo.v1 import get_trainer_cls as t\n"
        "modes = ('shape_grpo', 'shape_grpo_colocate_async', 'shape_grpo_separate_async')\n"
        "for cls in map(t, modes):\n"
        "    print(cls.verl_trainer_mode, hasattr(cls, 'worker_cls'))"
    )
    out = run(code, VERL_PLATFORM=platform)
    assert out[0::2] == ["sync", "colocate_async", "separate_async"]
    assert out[1::2] == [has_cpu_worker] * 3


def test_the_cpu_platform_is_verls_platform_and_answers_for_vllm():
    code = (
        "import verl, os; from verl.plugin.platform import get_platform; "
        "from importlib.metadata import version; "
        "print(get_platform().device_name, version('vllm'), os.environ['VERL_ENGINE_DEVICE'])"
    )
    out = run(code, VERL_PLATFORM="cpu")
    assert out[0] == "cpu" and out[1].endswith("+cpu") and out[2] == "cuda"
