"""One cell of the paper's tables through the real pipeline, by the configuration the GPUs get.

`python -m recipe.shape_grpo.sweep tiny` runs all of them.
"""

import json

import pytest

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.sweep.__main__ import main
from recipe.shape_grpo.tasks.ds1000 import SUMS
from tests.reward_fns.ds1000_schema import Problem, prompt

pytestmark = pytest.mark.e2e

STEPS = 2


def test_code_in_the_sandbox(tmp_path, monkeypatch):
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
    monkeypatch.setenv("DS1000", str(problems))
    output = tmp_path / "sweep"
    main(["tiny", "tasks=[ds1000]", "methods=[shape_grpo]", "--output", str(output)])
    (run,) = (path.parent for path in output.glob("ds1000-k3/shape_grpo/*/*/settings.json"))
    metrics = read_metrics(run)
    assert sorted(metrics) == list(range(1, STEPS + 1))
    for step in metrics.values():
        assert 0.5 < step["shape_grpo/num_candidates"] <= 3
        assert step["shape_grpo/reward_errors"] == 0
    assert 0 < sum(step["shape_grpo/candidate_reward"] for step in metrics.values()) < STEPS
