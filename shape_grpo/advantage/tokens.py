"""The whole advantage step: records of candidates in, advantages of tokens out."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shape_grpo.advantage.candidates import candidate_advantages
from shape_grpo.advantage.records import CandidateBatch
from shape_grpo.advantage.scatter import scatter_candidate_advantages
from shape_grpo.advantage.statistics import GroupIndex
from shape_grpo.credit import Utility


@torch.no_grad()
def token_advantages(
    candidates: CandidateBatch,
    scores: Tensor,
    response_mask: Tensor,
    index: GroupIndex,
    *,
    utility: str | Utility,
    allocator: str,
    allocator_options: Mapping[str, Any] | None,
    advantage: str,
    length_correction: bool,
    norm_by_std: bool,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """Advantages of the tokens of N responses. A trainer calls this once a batch.

    Args:
        candidates: Those of the responses, with K columns.
        scores: (N,) floating scores R_i of the responses; not read where a response is
            ``unknown``, whose advantages are 0.
        response_mask: (N, T) bool, integer or floating; 1 where the policy wrote the token.
        index: (N,) group ids.
        utility: As `candidate_advantages`, like all that follow.
        allocator: Splits the score.
        allocator_options: Its options.
        advantage: A reading.
        length_correction: Whether lengths count.
        norm_by_std: Whether to divide by the standard deviation.
        epsilon: Added to it.

    Returns:
        ``(tokens, shared)``: (N, T) float32 advantages, 0 outside the mask, and (N,) float32 those
        of the tokens outside every candidate.

    Raises:
        ValueError: As `candidate_advantages` and `scatter_candidate_advantages`.
    """
    # Counting reads the whole mask; without the correction lengths are not used.
    lengths = (
        candidates.token_counts(response_mask)
        if length_correction
        else candidates.ends - candidates.starts
    )
    credit, shared = candidate_advantages(
        candidates.rewards,
        candidates.mask,
        lengths,
        index,
        utility=utility,
        allocator=allocator,
        allocator_options=allocator_options,
        advantage=advantage,
        length_correction=length_correction,
        norm_by_std=norm_by_std,
        epsilon=epsilon,
        scores=scores.where(~candidates.unknown, float("nan")),
        shares=partial(candidates.share, utility, allocator, allocator_options),
    )
    tokens = scatter_candidate_advantages(
        credit, shared, candidates.starts, candidates.ends, response_mask
    )
    return tokens, shared
