"""Candidates of a batch, from the trainer to the estimators.

verl passes an estimator the rewards and masks of a batch, but not its candidates. The trainer
(``shape_grpo.verl.trainer``) therefore holds them in a context variable around verl's call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from shape_grpo.advantage import CandidateBatch, Method
from shape_grpo.credit import Shares


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
