"""The README's code runs, and its commands name real keys of the installed verl."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from recipe.shape_grpo.runs.check import check_run, compose_config
from recipe.shape_grpo.tasks.common import verl_row
from recipe.shape_grpo.tasks.new import new_task
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import check_trainer_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def block(language, marker):
    (found,) = (text for text in blocks(language) if marker in text)
    return found


def test_the_path_to_ones_own_task_is_short():
    section = README[README.index("## Your own task") : README.index("## Without verl")]
    code = re.findall(r"```\w+\n(.*?)```", section, flags=re.DOTALL)
    assert sum(len(text.splitlines()) for text in code) < 40


def test_the_reward_function_is_that_of_a_new_task(tmp_path):
    new_task("my_task", tmp_path, tmp_path)
    code = block("python", "# my_task/reward.py")
    shown, whole = {}, {}
    exec(code, shown)
    exec((tmp_path / "reward.py").read_text(), whole)
    assert shown["MENU"].items() <= whole["MENU"].items()
    for dish in ("Beef chili", "ice cream", "cake"):
        scores = [names["compute_score"]("", dish, "hot cold sweet") for names in (shown, whole)]
        assert scores[0] == scores[1]


def test_the_trl_example_is_short_and_learns(tmp_path):
    code = block("python", "ShapEGRPOTrainer(")
    assert len(code.splitlines()) < 40
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    line = result.stdout.splitlines()[-1]
    first, last = map(float, re.findall(r"[0-9.]+(?= stars| at last)", line))
    assert first < 4.2 and last > 4.8


def test_the_credit_example_prints_what_it_says(capsys):
    code = block("python", "shapley_values")
    exec(code, {})
    assert capsys.readouterr().out.strip() in code


@pytest.fixture
def own_task(tmp_path, monkeypatch):
    """The folder that the README's commands are run in: a clone with data and a reward."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    rows = [
        verl_row("own", "writing", [{"role": "user", "content": "Hi"}], "", index=n)
        for n in range(64)
    ]
    for split in ("train", "test"):
        pd.DataFrame(rows).to_parquet(f"{split}.parquet")
    Path("my_reward.py").write_text(block("python", "def compute_score"))
    Path("recipe").symlink_to(ROOT / "recipe")


def flags_of(marker):
    return shlex.split(block("bash", marker).replace("\\\n", " "))


def test_the_command_for_gpus_is_right_as_it_stands(own_task):
    command = flags_of("recipe.shape_grpo.runs praise outputs/first")
    config = compose_config(["+method=praise", *command[command.index("+task=own") :][:1]])
    check_run(config)
    # Neither an account nor a key is asked for.
    assert list(config.trainer.logger) == ["console", "file"]
    assert config.dataset.candidates == 3


def test_verls_own_entry_point_runs_the_same_settings(own_task):
    command = flags_of("\n    +task=own +method=praise")
    result = subprocess.run(
        [sys.executable, *command[1:], "--cfg", "job", "--resolve"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    shown = result.stdout[result.stdout.index("model_engine:") :]
    ours = compose_config(["+task=own", "+method=praise"])
    assert OmegaConf.create(shown) == ours


def test_four_flags_are_enough_for_a_command_of_verl(own_task):
    four = flags_of("    +method=praise \\\n")
    assert len(four) == 4
    theirs = [
        *("data.train_files=train.parquet", "data.val_files=test.parquet"),
        *("data.train_batch_size=64", "actor_rollout_ref.actor.ppo_mini_batch_size=64"),
        *("actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.actor.use_dynamic_bsz=true"),
        *("actor_rollout_ref.rollout.n=8", "actor_rollout_ref.model.path=Qwen/Qwen3-8B"),
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=[*four, *theirs])
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert check_trainer_config(config) == ShapeGRPOConfig.from_method("praise")


def test_an_allocator_of_ones_own_is_found_by_verl_and_by_the_config(tmp_path):
    """The five lines in shape_grpo/credit/README.md, loaded as they say, in a process that knows
    only verl."""
    text = (Path(__file__).parents[1] / "shape_grpo/credit/README.md").read_text()
    (code,) = re.findall(r"```python\n(# my_credit.py.*?)```", text, flags=re.DOTALL)
    (tmp_path / "my_credit.py").write_text(code)
    program = """
import verl
from shape_grpo.credit import allocate
from shape_grpo.config import ShapeGRPOConfig
ShapeGRPOConfig.from_algorithm({"shape_grpo": {"allocator": "proportional"}})
print(allocate([[6.0, 2.0]], allocator="proportional").tolist())
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "VERL_USE_EXTERNAL_MODULES": "my_credit"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[[4.5, 1.5]]"


def lines_of_the_table(text=README):
    table = text.partition("| your set, your reward |")[2].partition("\n\n")[0]
    return [re.findall(r"`(python [^`]*)`", row)[-1] for row in table.splitlines()[2:]]


CONFIGURATION = (ROOT / "recipe/shape_grpo/docs/configuration.md").read_text()
LINES = dict.fromkeys(lines_of_the_table() + lines_of_the_table(CONFIGURATION))


@pytest.mark.parametrize("line", LINES)
def test_each_line_of_the_table_runs(line, tmp_path, monkeypatch):
    monkeypatch.setattr("recipe.shape_grpo.tasks.new.CONFIGS", tmp_path / "config")
    (tmp_path / "config").mkdir()
    monkeypatch.chdir(tmp_path)
    _, _, module, *arguments = shlex.split(line)
    import_module(f"{module}.__main__").main(arguments)
    if "tasks" in module:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for command in (["prompts.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "."]):
            folder = tmp_path / arguments[1]
            subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True)


def test_the_tables_have_six_rows():
    assert len(lines_of_the_table()) == len(lines_of_the_table(CONFIGURATION)) == 6
