"""The advantage estimator ``shape_grpo_rollouts`` of verl's registry: a prompt's rollouts as a set.

It needs scalar rewards alone, so any trainer and any reward manager of verl will do. With the
trainer and the reward manager of this package, a response that is one candidate may have a vector
as its reward, a failed reward leaves the set, and several outputs of a rollout count once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est

from shape_grpo.advantage import rollout_advantages
from shape_grpo.config import LARGEST, ShapeGRPOConfig
from shape_grpo.verl import trainers_logger
from shape_grpo.verl.checks import ROLLOUTS_ESTIMATOR
from shape_grpo.verl.context import candidates_of_batch, current_candidates

logger = trainers_logger(__name__)


@register_adv_est(ROLLOUTS_ESTIMATOR)
def compute_rollout_advantage(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    config: Any,
    index: np.ndarray,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Compute the advantages of rollouts as candidates of one set; verl calls it by name.

    Args:
        token_level_rewards: (B, T) float; a response's reward is their sum, as in verl's GRPO.
        response_mask: (B, T); 1 where the policy wrote the token.
        config: verl's ``algorithm`` config, with the block ``shape_grpo``.
        index: (B,) group ids.
        **kwargs: Further arguments of verl; the fields of the batch, if it passes them.

    Returns:
        Advantages and returns, the same (B, T) float32 tensor, as in verl's GRPO.

    Raises:
        ValueError: The utility does not allow a reward.
    """
    method = ShapeGRPOConfig.from_algorithm(config).method
    rewards = token_level_rewards.sum(-1)
    context = current_candidates() or candidates_of_batch(kwargs, index, config)
    known, shares, final_rows = None, None, torch.arange(len(rewards))
    if context is not None:
        shares = context.rollout_shares
        known, final_rows = ~context.candidates.unknown, context.final_rows
        if context.scores is not None:
            rewards = context.scores
        if method.utility.takes_vectors:
            # A response is one candidate, or has none.
            rewards = context.candidates.rewards.sum(dim=1)
    rows = torch.unique(final_rows)
    rewards = rewards.masked_fill(rewards.abs() > LARGEST, float("nan"))
    lost = int(rewards[rows].isnan().sum())
    if lost:
        logger.warning(
            "%d of %d rollouts have the reward NaN, or one of a magnitude above %g. They are left "
            "out of their sets, and their advantages are 0: let the reward function return a "
            "smaller number.",
            lost,
            len(rows),
            LARGEST,
        )
    advantages = rollout_advantages(
        rewards[rows],
        np.asarray(index)[rows],
        method,
        known=known if known is None else known[rows],
        shares=shares if shares is None else shares[rows],
    )
    of_rows = advantages[torch.searchsorted(rows, final_rows)].float()
    tokens = of_rows.unsqueeze(1) * response_mask
    return tokens, tokens
