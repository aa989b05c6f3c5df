"""The whole advantage step: records of candidates in, advantages of tokens out."""

import torch
from torch import Tensor

from shape_grpo.advantage.candidates import candidate_advantages
from shape_grpo.advantage.method import Method
from shape_grpo.advantage.records import CandidateBatch
from shape_grpo.advantage.scatter import scatter_candidate_advantages
from shape_grpo.advantage.statistics import GroupIndex
from shape_grpo.credit import Shares


@torch.no_grad()
def token_advantages(
    candidates: CandidateBatch,
    shares: Shares,
    scores: Tensor,
    response_mask: Tensor,
    index: GroupIndex,
    method: Method,
    *,
    rows: slice | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the advantages of the tokens of N responses. A trainer calls this once per batch.

    Args:
        candidates: Candidates of the responses, with K columns.
        shares: ``candidates.compute_shares(method)``.
        scores: (N,) floating scores R_i of the responses; not read where a response is
            ``unknown``, whose advantages are 0.
        response_mask: (N, T) bool, integer or floating; 1 where the policy wrote the token.
        index: (N,) group ids.
        method: How rewards become advantages.
        rows: The responses that ``response_mask`` and the result are of, for a trainer whose
            processes share groups. The lengths of candidates are then those of their spans.

    Returns:
        ``(tokens, shared)``: (N, T) float32 advantages, 0 outside the mask, and (N,) float32
        advantages of the tokens outside every candidate.

    Raises:
        ValueError: As `candidate_advantages` and `scatter_candidate_advantages`.
    """
    # Counting reads the whole mask; without the correction lengths are not used.
    lengths = (
        candidates.token_counts(response_mask)
        if method.length_correction and rows is None
        else candidates.ends - candidates.starts
    )
    credit, shared = candidate_advantages(
        candidates.rewards,
        candidates.mask,
        lengths,
        index,
        method,
        scores=scores.where(~candidates.unknown, float("nan")),
        shares=shares,
    )
    starts, ends = candidates.starts, candidates.ends
    if rows is not None:
        credit, shared, starts, ends = (x[rows] for x in (credit, shared, starts, ends))
    return scatter_candidate_advantages(credit, shared, starts, ends, response_mask), shared
