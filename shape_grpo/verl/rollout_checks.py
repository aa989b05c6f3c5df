"""Checks of a configuration for the estimator ``shape_grpo_rollouts``; needs no verl."""

from __future__ import annotations

import warnings

import torch
from omegaconf import DictConfig

from shape_grpo.config import BLOCK, ShapeGRPOConfig
from shape_grpo.verl.checks import REWARD_MANAGER, ROLLOUTS_ESTIMATOR, TRAINER_MODES

READ = ("utility", "utility_options", "allocator", "allocator_options", "epsilon")
"""Keys of the block that the estimator reads; the others are the reward manager's."""
ONE_OUTPUT = ("single_turn_agent", "tool_agent")
"""verl's agent loops, which give one output per rollout."""


def check_rollouts(config: DictConfig, block: ShapeGRPOConfig) -> None:
    """Check the settings that the estimator needs, and warn of settings that nothing reads.

    Raises:
        ValueError: A setting is wrong; the message names it and says what to write instead.
    """
    block.check_rollouts(config.actor_rollout_ref.rollout.n, "actor_rollout_ref.rollout.n")
    utility = block.method.utility
    manager, mode = config.reward.reward_manager.name, config.trainer.v1.trainer_mode
    is_verls_trainer = not config.trainer.use_v1 or mode in TRAINER_MODES.values()
    if utility.takes_vectors or utility.takes_texts:
        _check_vectors(block, manager, is_verls_trainer)
    if config.algorithm.use_kl_in_reward and not utility.allows(torch.tensor(-1.0)).all():
        raise ValueError(
            "algorithm.use_kl_in_reward=true subtracts a penalty from the rewards, and utility "
            f"{block.utility} takes {utility.domain}: write "
            "actor_rollout_ref.actor.use_kl_loss=true instead."
        )
    defaults = ShapeGRPOConfig.block_defaults()
    changed = [
        f"{key}={getattr(block, key)}"
        for key in defaults
        if key not in READ and getattr(block, key) != defaults[key]
    ]
    if changed and manager != REWARD_MANAGER:
        warnings.warn(
            f"{BLOCK}: {', '.join(changed)}: only reward.reward_manager.name={REWARD_MANAGER} "
            f"reads this, and it is {manager}.",
            stacklevel=3,
        )
    agent = config.actor_rollout_ref.rollout.agent
    if is_verls_trainer and agent.default_agent_loop not in ONE_OUTPUT:
        warnings.warn(
            f"agent.default_agent_loop={agent.default_agent_loop}: if it gives several outputs per "
            "rollout, verl's own trainer passes each as a rollout of its own: write "
            "trainer.v1.trainer_mode=shape_grpo, which counts the last.",
            stacklevel=3,
        )


def _check_vectors(block: ShapeGRPOConfig, manager: str, is_verls_trainer: bool) -> None:
    """Check that each response is one candidate, whose vector or text reaches the trainer."""
    if manager != REWARD_MANAGER or is_verls_trainer:
        raise ValueError(
            f"{BLOCK}.utility={block.utility} reads more of a response than one number, which is "
            "all that verl's own trainers and reward managers pass: write "
            f"trainer.v1.trainer_mode=shape_grpo reward.reward_manager.name={REWARD_MANAGER} "
            f"{BLOCK}.format=whole."
        )
    is_one = block.max_candidates == 1 and block.surplus == "drop"
    if block.format != "whole" and not is_one:
        raise ValueError(
            f"{BLOCK}.format={block.format}: with utility={block.utility} and "
            f"adv_estimator={ROLLOUTS_ESTIMATOR} each response is one candidate: "
            f"write format=whole, or max_candidates=1."
        )
