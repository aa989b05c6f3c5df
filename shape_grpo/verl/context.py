"""Candidates of a batch, from the trainer to the estimators.

verl 0.9.1 passes an estimator the rewards and masks of a batch, but not its candidates. The trainer
(``shape_grpo.verl.trainer``) therefore holds them in a context variable around verl's call. A verl
that passes the fields of the batch needs no such trainer: `candidates_of_batch` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shape_grpo.advantage import CandidateBatch, CandidateRecord, GroupIndex, Method
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Shares
from shape_grpo.verl.checks import RECORD_KEY


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

    @classmethod
    def of_records(
        cls,
        records: Sequence[CandidateRecord],
        index: GroupIndex,
        config: ShapeGRPOConfig,
        final_rows: Tensor | None = None,
    ) -> CandidatesInContext:
        """Return the context of a batch of records, with their shares.

        Args:
            records: (B,) records; empty ones for rows without candidates.
            index: (B,) group ids.
            config: Method, and the rewards that credit is computed from.
            final_rows: As the attribute; None: each row is a rollout of its own.
        """
        credited = config.training_records(records, index)
        scores = None
        if credited is not records:
            scores = torch.tensor(config.scores(credited))
        method = config.method
        candidates = CandidateBatch.collate(credited, vectors=method.utility.takes_vectors)
        shares = candidates.compute_shares(method)
        rows = torch.arange(len(records)) if final_rows is None else final_rows
        return cls(candidates, shares, rows, method, scores)


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


def candidates_of_batch(
    passed: Mapping[str, Any], index: GroupIndex, algorithm: Any
) -> CandidatesInContext | None:
    """Return the candidates of a batch whose fields verl passes to estimators; None without them.

    A record is in the column `RECORD_KEY`, or in the column ``extra_fields``, as the agent loop
    left it. Columns are in ``non_tensor_batch``, in ``batch`` if that is a ``DataProto``, or
    arguments by name. Each row counts as a rollout: only this package's trainer knows which of
    several outputs per rollout is the last.

    Args:
        passed: Arguments of the estimator, by name.
        index: (B,) group ids.
        algorithm: verl's ``algorithm`` config, with the block ``shape_grpo``.
    """
    batch = getattr(passed.get("batch"), "non_tensor_batch", None)
    columns = {**(batch or {}), **(passed.get("non_tensor_batch") or {}), **passed}
    if RECORD_KEY in columns:
        texts = list(columns[RECORD_KEY])
    elif "extra_fields" in columns:
        fields = columns["extra_fields"]
        texts = [(each.get("reward_extra_info") or {}).get(RECORD_KEY) for each in fields]
    else:
        return None
    if not any(texts):
        return None
    records = [CandidateRecord.from_json(text) if text else CandidateRecord() for text in texts]
    config = ShapeGRPOConfig.from_algorithm(algorithm)
    return CandidatesInContext.of_records(records, index, config)
