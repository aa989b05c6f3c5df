"""Every cell of the paper's tables composes to a configuration that the installed verl accepts."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from recipe.shape_grpo.files import STAMP
from recipe.shape_grpo.runs.check import check_config, compose_config
from recipe.shape_grpo.runs.task_check import check_task

ROOT = Path(__file__).parents[3]
JUDGE = "reward.custom_reward_function.reward_kwargs.base_url=http://localhost:8000/v1"
TASKS = ["netflix", "netflix_history", "aclsum", "aclsum_rouge", "ds1000"]
METHODS = sorted(path.stem for path in (ROOT / "recipe/shape_grpo/config/method").glob("*.yaml"))


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Reward functions are named by paths from there."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_cell_is_valid(task, method):
    judge = [JUDGE] if task == "aclsum" else []
    config = compose_config([f"+task={task}", f"+method={method}", *judge])
    check_config(config)
    assert config.algorithm.adv_estimator == ("grpo" if method == "grpo" else "shape_grpo")
    if method != "grpo":
        allocator = config.algorithm.shape_grpo.allocator
        assert allocator == ("shapley" if method == "shape_grpo" else method)
    assert config.trainer.experiment_name.endswith(method)
    assert config.algorithm.shape_grpo.max_candidates == config.dataset.candidates


def keys_of(block, prefix=""):
    """Dotted paths of all keys."""
    for key, value in block.items():
        yield prefix + key
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{key}.")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_sets_no_key_that_verl_does_not_know(task):
    """Hydra takes any key from a file, and only checks those of the command line."""
    task_config, plain = (
        set(keys_of(OmegaConf.to_container(compose_config(overrides))))
        for overrides in ([f"+task={task}"], [])
    )
    own = ("dataset", "reward.custom_reward_function.reward_kwargs")
    added = {key for key in task_config - plain if not key.startswith(own)}
    assert added == {"data.apply_chat_template_kwargs.enable_thinking"}


@pytest.mark.parametrize("task", TASKS)
def test_every_cell_has_a_twin_without_a_gpu(task):
    overrides = [f"+task={task}", "+method=shape_grpo", "+backend=cpu", "+scale=tiny"]
    overrides += [JUDGE] if task == "aclsum" else []
    config = compose_config(overrides)
    check_config(config)
    assert config.trainer.device == "cpu"
    assert config.actor_rollout_ref.model.path == f"{config.dataset.folder}/policy"


REFUSED = {
    # overrides, what the message must say
    "a key verl does not have": (["data.train_batch=8"], "Key 'train_batch' is not in struct"),
    "a task there is none of": (["+task=chess"], "Could not find 'task/chess'"),
    "mini-batches that leave a rest": (
        ["actor_rollout_ref.actor.ppo_mini_batch_size=48"],
        "train_batch_size=64 is no multiple of .*48",
    ),
    "responses that do not divide": (["trainer.n_gpus_per_node=3"], "divi"),
    "micro-batches that leave a rest": (
        [
            "actor_rollout_ref.actor.use_dynamic_bsz=false",
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=24",
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
        ],
        "256 responses a GPU and update are no multiple of .*24",
    ),
    "a reward function elsewhere": (
        ["reward.custom_reward_function.path=no/such.py"],
        "no/such.py: there is no such file",
    ),
    "a reward function in a package there is none of": (
        ["reward.custom_reward_function.path=pkg://reward_fns.chess"],
        "reward_fns.chess: it cannot be imported .*No module named 'reward_fns.chess'",
    ),
    "a reward function of another name": (
        ["reward.custom_reward_function.name=score"],
        "it has no function score",
    ),
    "a keyword misspelt": (
        ["+reward.custom_reward_function.reward_kwargs.treshold=80"],
        "reward_kwargs.treshold: .*Did you mean threshold",
    ),
    "an allocator there is none of": (
        ["algorithm.shape_grpo.allocator=shapely"],
        "Did you mean shapley",
    ),
}


@pytest.mark.parametrize(("overrides", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(overrides, says):
    if not any(override.startswith("+task") for override in overrides):
        overrides = ["+task=netflix", "+method=shape_grpo", *overrides]
    with pytest.raises(ValueError, match=says):
        check_config(compose_config(overrides))


@pytest.mark.parametrize(
    "path", ["pkg://reward_fns.netflix", f"file://{ROOT}/reward_fns/netflix.py"]
)
def test_reward_functions_are_found_as_verl_finds_them(path):
    override = f"reward.custom_reward_function.path={path}"
    check_config(compose_config(["+task=netflix", override]))


def test_the_check_reads_a_configuration_as_hydra_hands_it_over():
    """Its interpolations not yet resolved."""
    config = OmegaConf.create(
        {
            "dataset": {"folder": "here", "candidates": 3},
            "reward": {
                "reward_model": {"enable": False},
                "custom_reward_function": {
                    "path": "reward_fns/netflix.py",
                    "reward_kwargs": {"ratings": "${dataset.folder}/ratings.npz"},
                },
            },
        }
    )
    check_task(config)
    config.reward.custom_reward_function.reward_kwargs.rating = "${dataset.folder}"
    with pytest.raises(ValueError, match=r"rating: .*Did you mean ratings"):
        check_task(config)


def test_prompts_for_another_k_are_refused(tmp_path):
    (tmp_path / STAMP).write_text(json.dumps({"k": 3}))
    overrides = ["+task=netflix", f"dataset.folder={tmp_path}"]
    check_config(compose_config([*overrides, "dataset.candidates=3"]))
    with pytest.raises(ValueError, match=r"candidates=5, .*ask for 3: .*--k 5"):
        check_config(compose_config(overrides))


def test_a_judge_that_is_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"no judge: write .*base_url"):
        check_config(compose_config(["+task=aclsum"]))
    with pytest.raises(ValueError, match="base_url='localhost'"):
        check_config(compose_config(["+task=aclsum", JUDGE.split("=")[0] + "=localhost"]))
    own = ["reward.reward_model.enable=true", "reward.reward_model.model_path=judge"]
    check_config(compose_config(["+task=aclsum", *own]))


def run_script(script, *arguments, **environment):
    python = {"PYTHON": os.environ.get("PYTHON", "python")}
    return subprocess.run(
        [ROOT / "run_scripts" / script, *arguments],
        env={**os.environ, **python, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("script", sorted(path.name for path in ROOT.glob("run_scripts/run_*.sh")))
def test_scripts_say_which_methods_there_are(script):
    result = run_script(script)
    assert result.returncode == 2
    for method in METHODS:
        assert method in result.stderr


def test_a_script_prints_the_command_it_would_run(tmp_path):
    result = run_script(
        "run_netflix_history.sh",
        "winner_takes_all",
        "--dry-run",
        "data.seed=7",
        PYTHON=os.sys.executable,
        PYTHONPATH=str(ROOT),
        K="3",
        MODEL="Qwen/Qwen3-0.6B",
        N_GPUS="8",
        NNODES="2",
    )
    assert result.returncode == 0, result.stderr
    command = result.stdout.replace(" \\\n    ", " ")
    assert command.startswith("python -m recipe.shape_grpo.main_shape_grpo +task=netflix_history")
    for override in (
        "+method=winner_takes_all",
        "dataset.candidates=3",
        "actor_rollout_ref.model.path=Qwen/Qwen3-0.6B",
        "trainer.n_gpus_per_node=8",
        "trainer.nnodes=2",
        "data.seed=7",
    ):
        assert f" {override}" in command
    assert "Not there yet: outputs/netflix_history-k3/train.parquet" in result.stdout
    assert "The configuration is valid." in result.stdout


def test_a_script_refuses_what_cannot_run():
    result = run_script(
        "run_ds1000.sh",
        "grpo",
        "--dry-run",
        "trainer.nodes=2",
        PYTHON=os.sys.executable,
        PYTHONPATH=str(ROOT),
    )
    assert result.returncode == 1
    assert "Configuration error: " in result.stderr and "nodes" in result.stderr


def test_a_reward_function_that_takes_any_keyword_gets_any(tmp_path):
    path = tmp_path / "reward.py"
    path.write_text("def compute_score(solution_str, **settings):\n    return 1.0\n")
    function = "reward.custom_reward_function"
    kwargs = f"+{function}.reward_kwargs.threshold=3"
    check_config(compose_config(["+task=aclsum_rouge", f"{function}.path={path}", kwargs]))
    path.write_text("def compute_score(solution_str, limit=1):\n    return 1.0\n")
    with pytest.raises(ValueError, match="threshold: the reward function does not name it"):
        check_config(compose_config(["+task=aclsum_rouge", f"{function}.path={path}", kwargs]))
