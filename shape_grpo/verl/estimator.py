"""The advantage estimator ``shape_grpo`` of verl's registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est

from shape_grpo.advantage import token_advantages
from shape_grpo.verl.checks import ESTIMATOR
from shape_grpo.verl.context import candidates_of_batch, current_candidates


@register_adv_est(ESTIMATOR)
def compute_shape_grpo_advantage(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    config: Any,
    index: np.ndarray,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Compute ShapE-GRPO's advantages; verl calls it by name.

    Args:
        token_level_rewards: (B, T) float; the set's score on one token of each response.
        response_mask: (B, T); 1 where the policy wrote the token.
        config: verl's ``algorithm`` config; read where the trainer is not this package's.
        index: (B,) group ids.
        **kwargs: Further arguments of verl; the fields of the batch, if it passes them.

    Returns:
        Advantages and returns, the same (B, T) float32 tensor, as in verl's GRPO.

    Raises:
        RuntimeError: Neither the trainer nor verl provided the candidates.
    """
    context = current_candidates() or candidates_of_batch(kwargs, index, config)
    if context is None:
        raise RuntimeError(
            "adv_estimator=shape_grpo found no candidates: launch with "
            "trainer.v1.trainer_mode=shape_grpo and reward.reward_manager.name=multi_candidate."
        )
    final_rows, method = context.final_rows, context.method
    scores = token_level_rewards.sum(-1) if context.scores is None else context.scores
    if torch.equal(final_rows, torch.arange(len(final_rows))):
        context.advantages, _ = token_advantages(
            context.candidates,
            context.shares,
            scores,
            response_mask,
            index,
            method,
        )
        return context.advantages, context.advantages
    rows = torch.unique(final_rows)
    tokens, shared = token_advantages(
        context.candidates.select(rows),
        context.shares.select(rows),
        scores[rows],
        response_mask[rows],
        np.asarray(index)[rows],
        method,
    )
    advantages = shared[torch.searchsorted(rows, final_rows)].unsqueeze(1) * response_mask
    advantages[rows] = tokens
    context.advantages = advantages
    return advantages, advantages
