"""The recipe for verl's repository of recipes, assembled as it would be there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.modules import load_module
from shape_grpo.verl import versions
from shape_grpo.verl.checks import check_trainer_config

UPSTREAM = Path(__file__).parents[2] / "recipe/shape_grpo/upstream"
# pyproject.toml of verl-recipe, 48ea0a7
RUFF = """
line-length = 120
[lint]
isort = {known-first-party = ["verl"]}
select = ["E", "F", "UP", "B", "I", "G"]
ignore = ["F405", "F403", "E731", "B007", "UP032", "G004", "UP045", "UP035"]
"""


@pytest.fixture
def verl_folder(tmp_path, monkeypatch):
    """verl's folder with this recipe alone, as the current one."""
    shutil.copytree(UPSTREAM, tmp_path / "recipe/shape_grpo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files():
    paths = (path for path in UPSTREAM.rglob("*") if path.is_file())
    return [path for path in paths if path.suffix != ".pyc"]


def test_it_has_what_a_recipe_has_there_and_little_more():
    names = {str(path.relative_to(UPSTREAM)) for path in files()}
    assert len(names) < 15
    assert {"README.md", "REQUIRED_VERL.txt", "config/shape_grpo_trainer.yaml"} < names
    assert len([name for name in names if re.fullmatch(r"run_\w+\.sh", name)]) == 2
    assert "(REQUIRED_VERL.txt)" in (UPSTREAM / "README.md").read_text()
    for path in files():
        if path.suffix in (".py", ".sh", ".yaml"):
            head = path.read_text()[:900]
            assert "Copyright" in head and "Apache License, Version 2.0" in head, path
        if path.suffix == ".sh":
            assert os.access(path, os.X_OK), path


def test_its_release_of_verl_is_the_tested_one():
    lines = (UPSTREAM / "REQUIRED_VERL.txt").read_text().splitlines()
    fields = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert fields["MODE"] == "pinned_tag" and fields["TAG"] == f"v{versions.TESTED}"
    assert fields["PIP_INSTALL"] == f"pip install verl=={versions.TESTED}"
    assert re.fullmatch(r"[0-9a-f]{40}", fields["COMMIT"])


def test_their_ruff_has_nothing_to_say(verl_folder):
    (verl_folder / "ruff.toml").write_text(RUFF)
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", "ruff.toml"]
        result = subprocess.run([*ruff, "recipe"], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("script", ["run_qwen3_8b_gsm8k.sh", "run_cpu.sh"])
def test_a_scripts_command_is_right(verl_folder, script):
    """Its flags are keys, and the checks before a run have nothing to say."""
    (verl_folder / "bin").mkdir()
    python = verl_folder / "bin/python3"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" > arguments\n")
    python.chmod(0o755)
    path = f"{verl_folder}/bin:{os.environ['PATH']}"
    subprocess.run(
        ["bash", f"recipe/shape_grpo/{script}", "trainer.nnodes=1"],
        env={**os.environ, "PATH": path, "MODEL": "a/model"},
        check=True,
        capture_output=True,
    )
    _, module, *overrides = (verl_folder / "arguments").read_text().splitlines()
    assert module == "recipe.shape_grpo.main_shape_grpo" and overrides[-1] == "trainer.nnodes=1"
    assert (verl_folder / module.replace(".", "/")).with_suffix(".py").is_file()
    with initialize_config_dir(f"{verl_folder}/recipe/shape_grpo/config", version_base=None):
        config = compose("shape_grpo_trainer", overrides)
    block = check_trainer_config(config)
    assert block == ShapeGRPOConfig(max_candidates=3)
    assert config.actor_rollout_ref.model.path == "a/model"


def test_data_and_rewards(verl_folder):
    (verl_folder / "gsm8k").mkdir()
    row = {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "What is 2 + 3? Let's think"}],
        "reward_model": {"style": "rule", "ground_truth": "5"},
        "extra_info": {"question": "What is 2 + 3?", "index": 0},
    }
    for name in ("train", "test"):
        pd.DataFrame([row]).to_parquet(f"gsm8k/{name}.parquet")
    command = [sys.executable, "recipe/shape_grpo/prepare_gsm8k.py", "gsm8k", "out/gsm8k_4"]
    subprocess.run([*command, "--candidates", "4"], check=True)
    (prepared,) = pd.read_parquet("out/gsm8k_4/train.parquet").to_dict("records")
    (message,) = prepared["prompt"]
    assert message["content"].startswith("What is 2 + 3?\n\nSolve the problem in 4 different ways.")
    assert prepared["reward_model"] == row["reward_model"]
    score = load_module("recipe/shape_grpo/reward_function.py").compute_score
    more = {"data_source": "openai/gsm8k", "extra_info": {"num_candidates": 2}}
    for text, reward in (("2 + 3 = 5", 1.0), ("#### 5", 1.0), ("#### 6", 0.0), ("none", 0.0)):
        assert score(solution_str=text, ground_truth="5", **more) == reward
