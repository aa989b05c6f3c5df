"""One call of the reward function, as a run makes them: with a row of its data, and one candidate.

Only the dry run does this: a reward function may be slow, cost money, or need a server that a run
is started after.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.failures import failure_in_one_line
from shape_grpo.verl.files import read_row
from shape_grpo.verl.reward_calls import RewardCalls, reward_function_of_a_run
from shape_grpo.verl.reward_function import (
    candidate_arguments,
    read_result,
    reward_kwargs,
)

MADE_UP = "A made-up candidate."


class RewardFailed(Exception):
    """The call raised, or returned no reward; the message says which, and how to see it again."""


def try_reward(config: DictConfig) -> str:
    """Call the reward function with the first row of the training data and a made-up candidate.

    Returns:
        A sentence that says what it gave, or why it was not called.

    Raises:
        RewardFailed: In a run, so would every candidate.
    """
    if config.reward.reward_model.enable:
        return "The reward function was not tried: it asks verl's reward model, which a run starts."
    files = config.data.train_files
    path = str(files[0] if isinstance(files, ListConfig) else files)
    if "://" in path or not path.endswith(".parquet"):
        return "The reward function was not tried: the training data are not parquet files here."
    row = read_row(Path(path).expanduser(), 0)
    function = reward_function_of_a_run(config)
    options = ShapeGRPOConfig.from_algorithm(config.algorithm)
    call = RewardCalls(function, options.reward_timeout, threads=1)
    try:
        arguments = candidate_arguments(row, MADE_UP, 0, 1)
        result = asyncio.run(call(**{**arguments, **reward_kwargs(config)}))
        reward, _ = read_result(result, MADE_UP, options)
    except Exception as error:
        raise RewardFailed(
            f"the reward function failed for the first row of data.train_files and the candidate "
            f"{MADE_UP!r}: {failure_in_one_line(error, function)}. In a run, each such failure "
            "costs a candidate."
        ) from error
    return f"The reward function gave {reward} for a made-up candidate of the first row."
