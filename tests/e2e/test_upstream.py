"""The recipe for verl's repository of recipes trains, in a folder that holds nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.runs.launch import cpu_environment
from tests.e2e.conftest import ROOT
from tests.recipe.test_upstream import UPSTREAM

pytestmark = pytest.mark.e2e


def test_two_steps_in_an_empty_folder(task, policy, tmp_path):
    shutil.copytree(UPSTREAM, tmp_path / "recipe/shape_grpo")
    for name in ("train", "test"):
        rows = pd.read_parquet(task / f"{name}.parquet")
        rows["reward_model"] = [{"style": "rule", "ground_truth": "1979"}] * len(rows)
        rows.to_parquet(tmp_path / f"{name}.parquet")
    # The package alone: this project's own `recipe` would come before the folder's.
    (tmp_path / "package").mkdir()
    (tmp_path / "package/shape_grpo").symlink_to(ROOT / "shape_grpo")
    environment = {
        **cpu_environment(tmp_path / "metrics.jsonl"),
        "MODEL": str(policy),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "package"),
    }
    result = subprocess.run(
        [
            *("bash", "recipe/shape_grpo/run_cpu.sh"),
            f"data.train_files={tmp_path}/train.parquet",
            f"data.val_files={tmp_path}/test.parquet",
            # The policy has 256 positions.
            *("data.max_prompt_length=96", "data.max_response_length=48"),
            "actor_rollout_ref.rollout.max_model_len=144",
            "trainer.logger=[file]",
            f"trainer.default_local_dir={tmp_path}/checkpoints",
        ],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    metrics = read_metrics(tmp_path)
    assert sorted(metrics) == [1, 2]
    for step in metrics.values():
        assert step["shape_grpo/responses"] == step["shape_grpo/responses_expected"] == 16
        assert step["shape_grpo/num_candidates"] > 0
        assert step["actor/grad_norm"] >= 0
        # The recipe's function was asked, and found no number in a film's title.
        assert step["shape_grpo/reward_errors"] == step["shape_grpo/candidate_reward"] == 0
