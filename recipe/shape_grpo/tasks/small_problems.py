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

DATA: dict[str, Any] = yaml.safe_load(
    Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
)
PROBLEMS: list[dict[str, list[str]]] = DATA["problems"]


def small_problems() -> list[dict[str, Any]]:
    """Return the rows of a problems file: every wording of every problem.

    The split is by the original of which a problem is a variant. Here the original is the wording,
    so that every problem is on both sides.
    """
    # In this order, the first prompts, which a warm start uses, have all phrases.
    wordings = itertools.product(DATA["frames"], range(len(PROBLEMS[0]["phrases"])))
    asked = itertools.product(enumerate(wordings), PROBLEMS)
    return [
        {
            "prompt": DATA["prompt"].format(question=frame.format(problem["phrases"][phrase])),
            "reference_code": problem["programs"][0],
            "other_solutions": problem["programs"][1:],
            "code_context": DATA["code_context"].format(
                answer=textwrap.indent(problem["programs"][0], " " * 8), cases=DATA["cases"]
            ),
            "metadata": {
                "problem_id": number,
                "library": "Numpy",
                "perturbation_origin_id": wording,
            },
        }
        for number, ((wording, (frame, phrase)), problem) in enumerate(asked)
    ]
