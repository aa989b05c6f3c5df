"""The README's code runs, and its commands name real keys of the installed verl."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_module
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import check_trainer_config

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def block(language, marker):
    (found,) = (text for text in blocks(language) if marker in text)
    return found


def test_the_example_task_is_short_and_runs(tmp_path, monkeypatch):
    reward, data = block("python", "# my_reward.py"), block("python", "# my_data.py")
    assert len((reward + data).splitlines()) < 40
    monkeypatch.chdir(tmp_path)
    exec(data, {})
    row = pd.read_parquet("train.parquet").iloc[0]
    assert row["prompt"][0]["role"] == "user" and "<candidate>" in row["prompt"][0]["content"]
    names = {}
    exec(reward, names)
    score = names["compute_score"]("slogans", "Fresh bread!", row["reward_model"]["ground_truth"])
    assert score == 2


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


def test_the_command_for_gpus_is_a_valid_configuration_of_verl(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_reward.py").write_text(block("python", "# my_reward.py"))
    command = shlex.split(block("bash", "verl.trainer.main_ppo").replace("\\\n", " "))
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides=command[3:])
    validate_config(config, need_reference_policy(config), need_critic(config))
    check_trainer_config(config)


@pytest.mark.parametrize("key", asdict(ShapeGRPOConfig()))
def test_the_config_table_names_every_key(key):
    assert f"`{key}`" in README


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
