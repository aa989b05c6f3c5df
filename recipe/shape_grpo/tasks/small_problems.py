"""Eight problems about one NumPy array, in DS-1000's schema but not from DS-1000.

`python -m recipe.shape_grpo.tasks ds1000 --problems small` makes a task that a tiny policy can
learn: each problem has many wordings and several right programs, which the policy sees in its warm
start. The test prompts are other wordings of the same problems.
"""

import itertools
import textwrap
from pathlib import Path
from typing import Any

import yaml

CASES = "[[4, -1, 3, 3, -2, 0, 6], [-5, 2, 2, -7]]"
"""Arrays of the tests. For the first, no two problems have the same answer."""

FRAMES = (
    "Compute {}.",
    "Given the NumPy array x, find {}.",
    "I have a NumPy array x. How do I get {}?",
    "Put {} into result.",
)
PROMPT = """\
Problem:
{question}

A:
<code>
import numpy as np
x = ... # load data
</code>
result = ... # put solution in this variable
BEGIN SOLUTION
<code>
"""
CODE_CONTEXT = '''\
import numpy as np


def generate_test_case(test_case_id):
    def generate_ans(x):
{answer}
        return result

    x = np.array({cases}[test_case_id - 1])
    return x, generate_ans(x.copy())


def exec_test(result, ans):
    try:
        np.testing.assert_allclose(result, ans)
        return 1
    except AssertionError:
        return 0


exec_context = r"""
import numpy as np
x = test_input
[insert]
"""


def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for i in range(2):
        test_input, expected_result = generate_test_case(i + 1)
        test_env = {{"test_input": test_input}}
        exec(code, test_env)
        assert exec_test(test_env["result"], expected_result)
'''


PROBLEMS: list[dict[str, list[str]]] = yaml.safe_load(
    Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
)


def small_problems() -> list[dict[str, Any]]:
    """Return the rows of a problems file: every wording of every problem.

    The split is by the original of which a problem is a variant. Here the original is the wording,
    so that every problem is on both sides.
    """
    # In this order, the first prompts, which a warm start uses, have all phrases.
    wordings = itertools.product(FRAMES, range(len(PROBLEMS[0]["phrases"])))
    asked = itertools.product(enumerate(wordings), PROBLEMS)
    return [
        {
            "prompt": PROMPT.format(question=frame.format(problem["phrases"][phrase])),
            "reference_code": problem["programs"][0],
            "other_solutions": problem["programs"][1:],
            "code_context": CODE_CONTEXT.format(
                answer=textwrap.indent(problem["programs"][0], " " * 8), cases=CASES
            ),
            "metadata": {
                "problem_id": number,
                "library": "Numpy",
                "perturbation_origin_id": wording,
            },
        }
        for number, ((wording, (frame, phrase)), problem) in enumerate(asked)
    ]
