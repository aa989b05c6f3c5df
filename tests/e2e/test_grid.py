"""One cell of the paper's tables through the real pipeline, by the configuration the GPUs get.

`./run_scripts/grid_cpu.sh` runs all of them.
"""

import json

import pytest
from ds1000_schema import Problem, prompt
from rich.console import Console

from recipe.shape_grpo.sweep.cells import STEPS, K, prepare_task, run_cell
from recipe.shape_grpo.tasks.ds1000 import SUMS

pytestmark = pytest.mark.e2e


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
    assert len(steps) == STEPS
    for metrics in steps:
        assert 0.5 < metrics["shape_grpo/num_candidates"] <= K
        assert metrics["shape_grpo/reward_errors"] == 0
    assert 0 < sum(metrics["shape_grpo/candidate_reward"] for metrics in steps) < STEPS
