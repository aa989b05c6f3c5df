"""Reward functions, asked about candidates in time, with their failures caught. Needs no verl."""

from shape_grpo.rewards.answers import AnswerWatch
from shape_grpo.rewards.arguments import (
    candidate_arguments,
    check_text_argument,
    text_argument,
)
from shape_grpo.rewards.calls import EveryThreadHangs, RewardCalls, background_loop
from shape_grpo.rewards.failures import ErrorBudget, Failure, FailureLog, failure_in_one_line
from shape_grpo.rewards.floor import Floor
from shape_grpo.rewards.function import (
    BrokenFunction,
    check_details,
    check_reward_function,
    load_reward_function,
    no_score,
    read_result,
    read_results,
    reward_kwargs,
    weighted_sum,
)
from shape_grpo.rewards.processes import RewardCrash, RewardTimeout
from shape_grpo.rewards.rows import read_row
from shape_grpo.rewards.scored import Scored, ScoredSet, indices_to_score, more_to_score
from shape_grpo.rewards.scoring import RewardFunction
from shape_grpo.rewards.step_metrics import DroppedGroups, StepMetrics

__all__ = [
    "AnswerWatch",
    "BrokenFunction",
    "DroppedGroups",
    "ErrorBudget",
    "EveryThreadHangs",
    "Failure",
    "FailureLog",
    "Floor",
    "RewardCalls",
    "RewardCrash",
    "RewardFunction",
    "RewardTimeout",
    "Scored",
    "ScoredSet",
    "StepMetrics",
    "background_loop",
    "candidate_arguments",
    "check_details",
    "check_reward_function",
    "check_text_argument",
    "failure_in_one_line",
    "indices_to_score",
    "load_reward_function",
    "more_to_score",
    "no_score",
    "read_result",
    "read_results",
    "read_row",
    "reward_kwargs",
    "text_argument",
    "weighted_sum",
]
