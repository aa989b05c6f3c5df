"""Two cells of the paper's tables through the real pipeline, by the configurations the GPUs get.

`./run_scripts/grid_cpu.sh` runs all of them.
"""

import json

import pytest
from ds1000_schema import Problem, prompt
from rich.console import Console

from recipe.shape_grpo.grid import STEPS, K, prepare_task, run_cell
from recipe.shape_grpo.prepare_ds1000 import SUMS

pytestmark = pytest.mark.e2e


def check(steps, worst, best):
    """The policy has learnt the format, and every candidate was scored by the task's function."""
    assert len(steps) == STEPS
    for metrics in steps:
        assert 0.5 < metrics["shape_grpo/num_candidates"] <= K
        assert metrics["shape_grpo/reward_errors"] == 0
        assert worst <= metrics["shape_grpo/candidate_reward"] <= best


def test_code_in_the_sandbox(tmp_path):
    """The problem that the policy's warm start answers: some of its programs are right."""
    problem = Problem(
        "sum_of_squares",
        "Numpy",
        prompt("Put the sum of the squares of x into result.", "import numpy as np\nx = ..."),
        ["np.array([1.0, 2, 3])", "np.array([-2.0])"],
        SUMS[0],
        "array",
        wrong={},
        unpack="x",
    )
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(problem.row(n)) + "\n" for n in range(12)))
    console = Console(quiet=True)
    prepare_task("ds1000", tmp_path, console, problems=str(problems), ratings=None)
    steps = run_cell("ds1000", "shape_grpo", tmp_path, console)
    check(steps, 0, 1)
    assert sum(metrics["shape_grpo/candidate_reward"] for metrics in steps) > 0


def test_summaries_scored_by_verls_own_reward_model(tmp_path):
    """A policy that judges itself, held to the five scores."""
    console = Console(quiet=True)
    prepare_task("aclsum_rouge", tmp_path, console, problems=None, ratings=None)
    judge = [
        "reward.reward_model.enable=true",
        f"reward.reward_model.model_path={tmp_path}/policy",
        "reward.reward_model.rollout.dtype=float32",
        "reward.custom_reward_function.reward_kwargs.answer=choice",
        "+reward.custom_reward_function.reward_kwargs.request={temperature:1.0}",
        *("ray_kwargs.ray_init.num_gpus=2", "ray_kwargs.ray_init.num_cpus=16"),
    ]
    steps = run_cell("aclsum", "winner_takes_all", tmp_path, console, *judge)
    check(steps, 1, 5)
    assert all(metrics["shape_grpo/fallback_candidates"] == 0 for metrics in steps)
    assert max(metrics["shape_grpo/credit_spread"] for metrics in steps) > 0
