"""Eight problems about one NumPy array, in DS-1000's schema but not from DS-1000.

`python -m recipe.shape_grpo.tasks ds1000 --problems small` makes a task that a tiny policy can
learn: each problem has many wordings and several right programs, which the policy sees in its warm
start. The test prompts are other wordings of the same problems.
"""

import itertools
import textwrap
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class SmallProblem:
    """A problem about the array x.

    Attributes:
        phrases: Descriptions of the result; every problem has the same number of them.
        programs: Right programs; the first is the reference.
    """

    phrases: tuple[str, ...]
    programs: tuple[str, ...]


# Without the sum of squares, which every prompt shows solved.
PROBLEMS = (
    SmallProblem(
        ("the mean of x", "the average of all numbers in x", "the arithmetic mean of the entries"),
        (
            "result = x.mean()",
            "result = np.mean(x)",
            "result = x.sum() / len(x)",
            "result = np.average(x)",
            "result = sum(x) / x.size",
        ),
    ),
    SmallProblem(
        ("the largest entry of x", "the maximum of x", "the largest number in x"),
        (
            "result = x.max()",
            "result = np.max(x)",
            "result = max(x)",
            "result = sorted(x)[-1]",
            "result = x[x.argmax()]",
        ),
    ),
    SmallProblem(
        (
            "how many entries of x are positive",
            "the number of positive entries of x",
            "the count of positive numbers in x",
        ),
        (
            "result = (x > 0).sum()",
            "result = np.count_nonzero(x > 0)",
            "result = len(x[x > 0])",
            "result = sum(value > 0 for value in x)",
            "result = 0\nfor value in x:\n    if value > 0:\n        result += 1",
        ),
    ),
    SmallProblem(
        ("x in reversed order", "the entries of x from last to first", "x reversed"),
        (
            "result = x[::-1]",
            "result = np.flip(x)",
            "result = list(reversed(x))",
            "result = np.flipud(x)",
            "result = x[np.arange(len(x))[::-1]]",
        ),
    ),
    SmallProblem(
        ("the cumulative sum of x", "the running totals of x", "all cumulative totals of x"),
        (
            "result = x.cumsum()",
            "result = np.cumsum(x)",
            "result = np.add.accumulate(x)",
            "result = np.tri(len(x)) @ x",
            "result = [x[:n + 1].sum() for n in range(len(x))]",
        ),
    ),
    SmallProblem(
        (
            "the distinct values of x, sorted",
            "the sorted unique values of x",
            "each distinct value of x once, in ascending order",
        ),
        (
            "result = np.unique(x)",
            "result = sorted(set(x))",
            "result = np.sort(list(set(x)))",
            "result = np.array(sorted(set(x.tolist())))",
            "result = np.union1d(x, x)",
        ),
    ),
    SmallProblem(
        (
            "the absolute value of each entry of x",
            "x without its signs, as absolute values",
            "the entries of x without their signs",
        ),
        (
            "result = np.abs(x)",
            "result = abs(x)",
            "result = np.maximum(x, -x)",
            "result = np.where(x < 0, -x, x)",
            "result = [abs(value) for value in x]",
        ),
    ),
    SmallProblem(
        (
            "the differences between neighbours in x",
            "the difference of each entry of x to the next",
            "the differences of consecutive entries",
        ),
        (
            "result = np.diff(x)",
            "result = x[1:] - x[:-1]",
            "result = np.subtract(x[1:], x[:-1])",
            "result = [b - a for a, b in zip(x, x[1:])]",
            "result = np.ediff1d(x)",
        ),
    ),
)


def small_problems() -> list[dict[str, Any]]:
    """Return the rows of a problems file: every wording of every problem.

    The split is by the original of which a problem is a variant. Here the original is the wording,
    so that every problem is on both sides.
    """
    # In this order, the first prompts, which a warm start uses, have all phrases.
    wordings = itertools.product(FRAMES, range(len(PROBLEMS[0].phrases)))
    asked = itertools.product(enumerate(wordings), PROBLEMS)
    return [
        {
            "prompt": PROMPT.format(question=frame.format(problem.phrases[phrase])),
            "reference_code": problem.programs[0],
            "other_solutions": list(problem.programs[1:]),
            "code_context": CODE_CONTEXT.format(
                answer=textwrap.indent(problem.programs[0], " " * 8), cases=CASES
            ),
            "metadata": {
                "problem_id": number,
                "library": "Numpy",
                "perturbation_origin_id": wording,
            },
        }
        for number, ((wording, (frame, phrase)), problem) in enumerate(asked)
    ]
