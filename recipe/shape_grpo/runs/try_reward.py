"""One call of the reward function, with a row of the run's data and a made-up candidate.

Only the dry run makes it: a reward function may be slow, cost money, or need a server that is
started later.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from shape_grpo.candidates import Candidate, CandidateRules, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.settings import load_function
from shape_grpo.rewards import (
    Failure,
    RewardFunction,
    candidate_arguments,
    read_row,
    reward_kwargs,
)

MADE_UP = ("A made-up candidate.", "Another made-up candidate.")


class RewardFailed(Exception):
    """Error for a call that raised or returned no reward; the message says which."""


def try_reward(config: DictConfig, path: Path) -> str:
    """Call the reward function with the first row of the data in ``path`` and a made-up candidate.

    Returns:
        A sentence with the reward.

    Raises:
        RewardFailed: The call failed.
    """
    row = read_row(path, 0)
    function = RewardFunction(
        load_function(config),
        ShapeGRPOConfig.from_algorithm(config.algorithm),
        reward_kwargs(config),
        log_failures=False,
        threads=1,
    )
    # A function that sees several candidates at once is shown two.
    texts = MADE_UP[: 1 if function.text_argument == "solution_str" else 2]
    written = [Candidate(text, 0, len(text)) for text in texts]
    found = CandidateSet.from_candidates(written, [(0, 0)] * len(written), CandidateRules())
    scored = asyncio.run(function.score_set(found, partial(candidate_arguments, row)))
    rewards = [each.reward for each in scored.results]
    if failure := next((reward for reward in rewards if isinstance(reward, Failure)), None):
        raise RewardFailed(
            f"the reward function failed for the first row of data.train_files and the candidate "
            f"{MADE_UP[0]!r}: {failure.summary.rstrip('.')}. A run would lose each such candidate."
        )
    # As the function returned it: of a vector, weightings keep weighted sums.
    told = " and ".join(
        repr(each.details["score"] if isinstance(each.reward, list) else each.reward)
        for each in scored.results
    )
    made_up = "a made-up candidate" if len(texts) == 1 else "two made-up candidates"
    return f"The reward function gave {told} for {made_up} of the first row."
