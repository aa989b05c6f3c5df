"""The advantage estimator ``shape_grpo`` of verl's registry.

verl hands an estimator the rewards and masks of a batch and nothing of its candidates. The trainer
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

from shape_grpo.advantage import CandidateBatch, token_advantages
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.checks import ESTIMATOR


@dataclass
class Loan:
    """What the trainer lends to the estimator, and what that leaves there.

    Attributes:
        candidates: Those of the B rows that verl will pass.
        final_rows: (B,) int64: the row that holds the last output of each row's rollout.
        options: How the candidates are credited.
        advantages: (B, T) what the estimator gave; None where verl called another one.
    """

    candidates: CandidateBatch
    final_rows: Tensor
    options: ShapeGRPOConfig
    advantages: Tensor | None = None


_LOAN: ContextVar[Loan] = ContextVar("shape_grpo_candidates")


@contextmanager
def candidates_in_context(
    candidates: CandidateBatch, final_rows: Tensor, options: ShapeGRPOConfig
) -> Iterator[Loan]:
    """Lend the batch's candidates to the estimator for the time of verl's call.

    Args:
        candidates: Those of the B rows that verl will pass.
        final_rows: (B,) int64: the row that holds the last output of each row's rollout. An agent
            loop may give several outputs; only the last is scored, and the others share its
            advantage, as in verl's GRPO.
        options: How they are credited.
    """
    loan = Loan(candidates, final_rows, options)
    token = _LOAN.set(loan)
    try:
        yield loan
    finally:
        _LOAN.reset(token)


@register_adv_est(ESTIMATOR)
def compute_shape_grpo_advantage(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    config: Any,
    index: np.ndarray,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """ShapE-GRPO's advantages, called by verl by name.

    Args:
        token_level_rewards: (B, T) float; the set's score on one token of each response.
        response_mask: (B, T); 1 where the policy wrote the token.
        config: verl's ``algorithm`` config.
        index: (B,) group ids.
        **kwargs: What else verl passes; not used.

    Returns:
        Advantages and returns, the same (B, T) float32 tensor, as in verl's GRPO.

    Raises:
        RuntimeError: where the trainer did not lend the candidates.
    """
    try:
        loan = _LOAN.get()
    except LookupError:
        raise RuntimeError(
            "adv_estimator=shape_grpo found no candidates: launch with "
            "trainer.v1.trainer_mode=shape_grpo and reward.reward_manager.name=multi_candidate."
        ) from None
    candidates, final_rows, options = loan.candidates, loan.final_rows, loan.options
    one_output_each = torch.equal(final_rows, torch.arange(len(final_rows)))
    rows = final_rows if one_output_each else torch.unique(final_rows)
    # A slice, because a copy of the mask would cost more than the credit.
    final = slice(None) if one_output_each else rows
    tokens, shared = token_advantages(
        candidates.select(final),
        token_level_rewards[final].sum(-1),
        response_mask[final],
        np.asarray(index)[final],
        utility=options.game,
        allocator=options.allocator,
        allocator_options=options.allocator_options,
        advantage=options.advantage,
        length_correction=options.length_correction,
        norm_by_std=config.get("norm_adv_by_std_in_grpo", True),
        epsilon=options.epsilon,
    )
    if one_output_each:
        loan.advantages = tokens
        return tokens, tokens
    advantages = shared[torch.searchsorted(rows, final_rows)].unsqueeze(1) * response_mask
    advantages[rows] = tokens
    loan.advantages = advantages
    return advantages, advantages
