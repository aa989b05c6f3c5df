"""Two cells of the paper's tables through the real pipeline, by the configurations the GPUs get.

`./run_scripts/grid_cpu.sh` runs all of them.
"""

import json

import pytest
from ds1000_problems import PROBLEMS
from rich.console import Console

from recipe.shape_grpo.grid import STEPS, K, prepare_task, run_cell

pytestmark = pytest.mark.e2e


@pytest.fixture
def problems(tmp_path):
    """A file of problems in DS-1000's schema."""
    path = tmp_path / "problems.jsonl"
    rows = [problem.row(number) for number, problem in enumerate(PROBLEMS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("task", "method"), [("aclsum_rouge", "winner_takes_all"), ("ds1000", "shape_grpo")]
)
def test_a_cell(task, method, tmp_path, problems):
    console = Console(quiet=True)
    prepare_task(task, tmp_path / task, console, problems=problems, ratings=None)
    steps = run_cell(task, method, tmp_path / task, console)
    assert len(steps) == STEPS
    for metrics in steps:
        # The policy has learnt the format, and every candidate was scored by the task's function.
        assert 0.5 < metrics["shape_grpo/num_candidates"] <= K
        assert metrics["shape_grpo/reward_errors"] == 0
        assert 0 <= metrics["critic/score/mean"] <= 1
