"""Metrics of the candidates of a step, beside the trainer's own.

verl merges the metrics of several updates by words in their names ("max", "min", "sum", "total");
the names here contain none, so that they are averaged. Averages of `COUNTS` say nothing: a trainer
that updates several times a step adds those up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from shape_grpo.advantage.method import Method
from shape_grpo.advantage.records import CandidateBatch, CandidateRecord
from shape_grpo.credit import Shares
from shape_grpo.credit.sets import chunks_by_size

PROBLEMS = ("truncated", "empty", "duplicate", "surplus", "fallback")
COUNTS = ("shape_grpo/reward_errors", *(f"shape_grpo/{name}_candidates" for name in PROBLEMS))
"""Metrics that are numbers of candidates, not means or shares."""


def candidate_metrics(
    records: Sequence[CandidateRecord],
    response_lengths: Sequence[int],
    batch: CandidateBatch,
    shares: Shares,
    method: Method,
) -> dict[str, float]:
    """Compute the metrics of the candidates of N responses.

    ``credit_spread`` is the coefficient of variation of a set's shares, averaged over sets of two
    and more (0 is GRPO). ``negative_weights`` is the part of candidates whose tokens are paid
    against their response's advantage, which happens only under utilities that a candidate can
    harm.

    A further number NAME that the reward function returned has ``reward/NAME/mean``, over the
    candidates, and ``reward/NAME/best``, its largest in a set, averaged over sets.

    Args:
        records: One record per response.
        response_lengths: Tokens of each response.
        batch: The records as `CandidateBatch.collate` stacks them.
        shares: ``batch.compute_shares(method)``.
        method: Its utility and allocator say how credit is spread.

    Returns:
        ``shape_grpo/...`` to a number. A mean over nothing is left out.

    Raises:
        ValueError: ``batch`` has another number of responses.
    """
    if len(batch.mask) != len(records):
        raise ValueError(f"candidates of {len(batch.mask)} responses, records of {len(records)}")
    counts = batch.mask.sum(-1)
    lengths = (batch.ends - batch.starts).double()
    rewards = torch.zeros_like(lengths)
    for rows, width in chunks_by_size(batch.rewards, batch.mask):
        rewards[rows, :width] = method.utility.ranking(
            batch.rewards[rows, :width].double()
        ).double()
    split = replace(method, length_correction=False).weigh(shares, batch.mask, lengths)
    errors = sum(record.num_errors for record in records)
    distinct = [record.distinct for record in records if record.distinct is not None]
    metrics = {
        "num_candidates": _mean(counts),
        "distinct_candidates": _mean(torch.tensor(distinct)),
        "responses_without_candidates": _mean(counts == 0),
        "candidate_reward": _mean(rewards[batch.mask]),
        "best_candidate_reward": _mean(rewards.where(batch.mask, -torch.inf).amax(-1)[counts > 0])
        if counts.any()
        else None,
        "candidate_length": _mean(lengths[batch.mask]),
        "candidate_length_variation": _mean(_variation(lengths, batch.mask)),
        "candidate_token_share": lengths[batch.mask].sum().item() / max(sum(response_lengths), 1),
        "credit_spread": _mean(_variation(split.shares, batch.mask)),
        "negative_weights": _mean(split.weights[batch.mask] < 0),
        "reward_errors": float(errors),
        "reward_error_share": errors / max(sum(record.num_asked for record in records), 1),
        **{
            f"{name}_candidates": float(
                sum(record.problem_counts.get(name, 0) for record in records)
            )
            for name in PROBLEMS
        },
    }
    metrics |= _reward_curves(records)
    return {f"shape_grpo/{name}": value for name, value in metrics.items() if value is not None}


def _reward_curves(records: Sequence[CandidateRecord]) -> dict[str, float | None]:
    """Return the mean over candidates, and over responses the best, of each further number that the
    reward function returned.
    """
    curves: dict[str, float | None] = {}
    for name in sorted({name for record in records for name in record.parts}):
        sets = [[x for x in record.parts.get(name, ()) if x is not None] for record in records]
        numbers = torch.tensor([number for numbers in sets for number in numbers])
        curves[f"reward/{name}/mean"] = _mean(numbers)
        curves[f"reward/{name}/best"] = _mean(torch.tensor([max(s) for s in sets if s]))
    return curves


def _variation(values: Tensor, mask: Tensor) -> Tensor:
    """Return standard deviation (ddof 0) over mean of each row of two or more, mean above 0."""
    counts = mask.sum(-1)
    values = values.where(mask, 0.0)
    means = values.sum(-1) / counts.clamp(min=1)
    squares = ((values - means.unsqueeze(-1)) ** 2).where(mask, 0.0).sum(-1) / counts.clamp(min=1)
    kept = (counts >= 2) & (means > 0)
    return squares[kept].sqrt() / means[kept]


def _mean(values: Tensor) -> float | None:
    return values.double().mean().item() if values.numel() else None
