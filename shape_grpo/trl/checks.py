"""Checks of TRL's settings: credit must reach the tokens of a candidate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn
from trl import GRPOConfig

ALLOWED = {
    # Each of them multiplies a token's own advantage.
    "loss_type": (
        ("dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "vespo", "luspo"),
        "no other loss is known to keep the advantages of tokens apart",
    ),
    "importance_sampling_level": (
        ("token",),
        "one ratio per response moves every token by the mean of its response's advantages",
    ),
    "scale_rewards": (
        ("group", "none"),
        "credit is measured against the responses to one prompt",
    ),
    "multi_objective_aggregation": (
        ("sum_then_normalize",),
        "the reward functions are summed for each candidate, before the set has a score",
    ),
}
"""Setting of `GRPOConfig` to its allowed values, and the reason against others."""


def check_options(reward_funcs: Any, args: GRPOConfig | None) -> None:
    """Check the arguments of `ShapEGRPOTrainer`.

    Raises:
        ValueError: A setting is not allowed; the message says what to write instead.
    """
    check_settings(args, ALLOWED)
    functions = reward_funcs if isinstance(reward_funcs, list) else [reward_funcs]
    for function in functions:
        if isinstance(function, str | nn.Module) or not callable(function):
            raise ValueError(
                f"reward_funcs: {str(function)[:80]!r} is no function. Write one that asks the "
                "reward model about candidates: "
                "def reward(prompts, completions, **columns) -> list[float]."
            )
    if not functions:
        raise ValueError("reward_funcs is empty: give one function or more.")


def check_settings(args: GRPOConfig | None, names: Iterable[str]) -> None:
    """Check the settings ``names``.

    Raises:
        ValueError: One is not allowed; the message says what to write instead.
    """
    for name in names:
        allowed, reason = ALLOWED[name]
        value = getattr(args, name, allowed[0])
        if value not in allowed:
            raise ValueError(
                f"GRPOConfig({name}={value!r}): {reason}. Write "
                f"{' or '.join(f'{name}={choice!r}' for choice in allowed)}."
            )
