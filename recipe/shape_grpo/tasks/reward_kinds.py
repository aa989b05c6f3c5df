"""Reward functions of the starter task, one per kind of reward; `tasks new` copies one of them.

They use `served` of `template/reward.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recipe.shape_grpo.tasks.template.reward import compute_score, served


@dataclass(frozen=True)
class RewardKind:
    """A kind of reward, with the settings that it needs.

    Attributes:
        function: The reward function.
        utility: Value of `algorithm.shape_grpo.utility`.
    """

    function: Callable[..., Any]
    utility: str


def of_one(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **kwargs: Any
) -> float:
    """Return the number of guests whom the dish serves; the score of an answer is its best."""
    return sum(served(solution_str, ground_truth))


def of_all(
    data_source: str,
    solution_strs: list[str],
    ground_truth: str,
    extra_info: Any = None,
    **kwargs: Any,
) -> list[float]:
    """Return one number per dish of an answer: the guests whom it serves, divided by the number of
    dishes of the answer that serve them.
    """
    tables = [served(dish, ground_truth) for dish in solution_strs]
    rivals = [max(sum(of_guest), 1.0) for of_guest in zip(*tables, strict=True)]
    return [sum(x / n for x, n in zip(table, rivals, strict=True)) for table in tables]


def vectors_of_all(
    data_source: str,
    solution_strs: list[str],
    ground_truth: str,
    extra_info: Any = None,
    **kwargs: Any,
) -> list[list[float]]:
    """Return one vector per dish of an answer: one number per guest."""
    return [served(dish, ground_truth) for dish in solution_strs]


def utility(solutions: list[str], ground_truth: str) -> float:
    """Return the number of guests whom a dish of this subset of the answer serves."""
    tables = [served(dish, ground_truth) for dish in solutions]
    return sum(map(max, zip(*tables, strict=True)))


REWARD_KINDS = {
    ("candidate", True): RewardKind(compute_score, "coverage"),
    ("candidate", False): RewardKind(of_one, "max"),
    ("set", True): RewardKind(vectors_of_all, "coverage"),
    ("set", False): RewardKind(of_all, "max"),
    ("subset", False): RewardKind(utility, "oracle"),
}
"""Kind of reward by the subject of a call, and by whether rewards are vectors."""
