"""The advantage estimator ``shape_grpo`` of verl's registry.

verl passes an estimator the rewards and masks of a batch, but not its candidates. The trainer
(``shape_grpo.verl.trainer``) therefore holds them in a context variable around verl's call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from verl.trainer.ppo.core_algos import register_adv_est

from shape_grpo.advantage import CandidateBatch, Method, token_advantages
from shape_grpo.credit import Shares
from shape_grpo.verl.checks import ESTIMATOR


@dataclass
class CandidatesInContext:
    """Candidates of a batch, for the estimator, and the advantages that it computed.

    Attributes:
        candidates: Candidates of the B rows that verl will pass.
        shares: Their shares under the method.
        final_rows: (B,) int64: the row that holds the last output of each row's rollout. An agent
            loop may give several outputs; only the last is scored, and the others share its
            advantage, as in verl's GRPO.
        method: How rewards become advantages.
        scores: (B,) scores of the rewards that credit is computed from, where these are not the
            reward manager's (``normalize_rewards``); None: the scores that verl passes.
        rollout_shares: (B,) shares of rollouts in the sets of their groups, under a utility that
            reads texts; NaN: unknown.
        advantages: (B, T) advantages of tokens; None where verl called another estimator.
    """

    candidates: CandidateBatch
    shares: Shares
    final_rows: Tensor
    method: Method
    scores: Tensor | None = None
    rollout_shares: Tensor | None = None
    advantages: Tensor | None = None


_CONTEXT: ContextVar[CandidatesInContext] = ContextVar("shape_grpo_candidates")


@contextmanager
def candidates_in_context(context: CandidatesInContext) -> Iterator[None]:
    """Make a batch's candidates available to the estimator for the time of verl's call."""
    token = _CONTEXT.set(context)
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def current_candidates() -> CandidatesInContext | None:
    """Return the candidates of the batch, or None under a trainer that provides none."""
    return _CONTEXT.get(None)


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
        config: verl's ``algorithm`` config; not used.
        index: (B,) group ids.
        **kwargs: Further arguments of verl; not used.

    Returns:
        Advantages and returns, the same (B, T) float32 tensor, as in verl's GRPO.

    Raises:
        RuntimeError: The trainer did not provide the candidates.
    """
    context = current_candidates()
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
