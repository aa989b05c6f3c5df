"""Reward functions, asked about candidates in time, with their failures caught. Needs no verl."""

from shape_grpo.rewards.calls import EveryThreadHangs, RewardCalls, RewardTimeout
from shape_grpo.rewards.failures import ErrorBudget, Failure, FailureLog, failure_in_one_line
from shape_grpo.rewards.function import (
    candidate_arguments,
    check_reward_function,
    load_reward_function,
    read_result,
    reward_kwargs,
)
from shape_grpo.rewards.rows import read_row
from shape_grpo.rewards.scoring import RewardFunction, Scored

__all__ = [
    "ErrorBudget",
    "EveryThreadHangs",
    "Failure",
    "FailureLog",
    "RewardCalls",
    "RewardFunction",
    "RewardTimeout",
    "Scored",
    "candidate_arguments",
    "check_reward_function",
    "failure_in_one_line",
    "load_reward_function",
    "read_result",
    "read_row",
    "reward_kwargs",
]
