"""Reward of one summary: its ROUGE against the reference summary of the same paper and aspect.

A verl reward function, called once per candidate. Set it with

    reward.custom_reward_function.path=reward_fns/aclsum_rouge.py

`python -m recipe.shape_grpo.tasks aclsum` writes the prompts and references.
"""

import re
from functools import cache
from typing import Any

from rouge_score.rouge_scorer import RougeScorer

ROUGE = ("rouge1", "rouge2", "rougeL")


@cache
def rouge_scorer() -> RougeScorer:
    """Return the process's scorer, with Porter stemming."""
    return RougeScorer(ROUGE, use_stemmer=True)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **kwargs: Any,
) -> float:
    """Return the mean F1 of ROUGE-1, ROUGE-2 and ROUGE-L, from 0 to 1.

    Args:
        data_source: not used; verl passes it.
        solution_str: one candidate, a summary; an empty one scores 0.
        ground_truth: the reference summary.
        extra_info: not used; verl passes it.
        **kwargs: not used; verl may pass more.

    Raises:
        ValueError: the reference has no words that ROUGE counts.
    """
    # rouge_score drops all other characters, so the score would always be zero.
    if not re.search("[a-z0-9]", ground_truth.lower()):
        raise ValueError(
            f"the reference summary {ground_truth!r} has no Latin letters or digits, which are all "
            "that ROUGE counts: check reward_model.ground_truth in the prompt file"
        )
    scores = rouge_scorer().score(ground_truth, solution_str)
    return sum(score.fmeasure for score in scores.values()) / len(scores)
