"""Credit, weights and scatter in one launch: the reading ``reweight`` under the max utility.

Each program computes the weights of its response anew, K^2 numbers in registers, which for small K
is less than the traffic of writing them out and reading them back.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from shape_grpo.credit.weights import NO_REWARD

BLOCK = 1024
"""Tokens a program writes."""

MOST_CANDIDATES = 32
"""K above which a response's K^2 comparisons no longer fit into registers."""


def reweight_max(
    rewards: Tensor,
    mask: Tensor,
    lengths: Tensor,
    shared: Tensor,
    starts: Tensor,
    ends: Tensor,
    response_mask: Tensor,
    *,
    length_correction: bool = False,
) -> Tensor:
    """Advantages of tokens from rewards: `candidate_advantages` under the max utility with the
    allocator ``shapley`` and the reading ``reweight``, then `scatter_candidate_advantages`.

    Args:
        rewards: (N, K) floating, K at most `MOST_CANDIDATES`; not read outside the mask.
        mask: (N, K) bool.
        lengths: (N, K) integer tokens of each candidate; read with ``length_correction`` alone.
        shared: (N,) floating GRPO advantages of the responses.
        starts: (N, K) integer first tokens; disjoint spans, not checked.
        ends: (N, K) integer, one past the last.
        response_mask: (N, T) bool, integer or floating.
        length_correction: As `shape_grpo.credit.split_utility`.

    Returns:
        (N, T) in the type of ``shared``, computed in float64.

    Raises:
        ValueError: Too many candidates.
    """
    (n, k), t = rewards.shape, response_mask.shape[1]
    if k > MOST_CANDIDATES:
        raise ValueError(f"{k} candidates; the fused kernel takes {MOST_CANDIDATES} at most")
    tokens = torch.empty(n, t, dtype=shared.dtype, device=shared.device)
    if not tokens.numel():
        return tokens
    block = min(BLOCK, triton.next_power_of_2(t))
    per_candidate = [x.contiguous() for x in (rewards, mask, lengths, starts, ends)]
    _reweight_max_kernel[(n, triton.cdiv(t, block))](
        *per_candidate,
        shared.contiguous(),
        response_mask,
        tokens,
        *(t, k),
        *response_mask.stride(),
        NO_REWARD,
        LENGTH_CORRECTION=length_correction,
        CANDIDATES=triton.next_power_of_2(max(k, 1)),
        BLOCK=block,
    )
    return tokens


@triton.jit
def _weights(rewards, mask, lengths, no_reward, LENGTH_CORRECTION: tl.constexpr):
    """Credit weights (CANDIDATES,) of one response, float64."""
    rewards = tl.where(mask, rewards, 0.0)
    rewards = tl.where(mask, rewards - tl.minimum(tl.min(rewards, axis=0), 0.0), 0.0)
    # The step below each reward is shared by the candidates that reach it; equal rewards have one
    # step together.
    mine, others = rewards[:, None], rewards[None, :]
    both = mask[:, None] & mask[None, :]
    below = tl.max(tl.where(both & (others < mine), others, 0.0), axis=1)
    reached_by = tl.sum((both & (others >= mine)).to(tl.float64), axis=1)
    alike = tl.sum((both & (others == mine)).to(tl.float64), axis=1)
    steps = tl.where(mask, (rewards - below) / tl.maximum(reached_by * alike, 1.0), 0.0)
    shares = tl.sum(tl.where(both & (others <= mine), steps[None, :], 0.0), axis=1)

    # One number a candidate, all the same: the interpreter cannot broadcast a scalar comparison.
    value = tl.max(rewards, axis=0) + tl.zeros_like(rewards)
    per_share = tl.sum(mask.to(tl.float64), axis=0) + tl.zeros_like(rewards)
    paid = mask
    if LENGTH_CORRECTION:
        paid = mask & (lengths > 0)
        value -= tl.sum(tl.where(paid, 0.0, shares), axis=0)
        total = tl.sum(tl.where(paid, lengths, 0.0), axis=0)
        per_share = total / tl.where(paid, lengths, 1.0)
    something = paid & (tl.abs(value) >= no_reward)
    return tl.where(something, shares / tl.where(something, value, 1.0) * per_share, 1.0)


@triton.jit
def _reweight_max_kernel(
    rewards,
    mask,
    lengths,
    starts,
    ends,
    shared,
    response_mask,
    tokens,
    T,
    K,
    mask_row,
    mask_column,
    no_reward,
    LENGTH_CORRECTION: tl.constexpr,
    CANDIDATES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, CANDIDATES)
    at, real = row * K + k, k < K
    present = tl.load(mask + at, mask=real, other=0) != 0
    weights = _weights(
        tl.load(rewards + at, mask=present, other=0).to(tl.float64),
        present,
        tl.load(lengths + at, mask=present, other=0).to(tl.float64),
        no_reward,
        LENGTH_CORRECTION,
    )
    value = tl.load(shared + row)
    # Rounded here, as the advantages of candidates are before the scatter.
    credit = (weights * value.to(tl.float64)).to(value.dtype)
    start = tl.load(starts + at, mask=present, other=0).to(tl.int64)
    end = tl.load(ends + at, mask=present, other=0).to(tl.int64)

    t = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    owns = (t[None, :] >= start[:, None]) & (t[None, :] < end[:, None])
    owned = tl.sum(owns.to(tl.int32), axis=0) > 0
    # One owner at most, so that the sum adds zeros to it.
    of_owner = tl.sum(tl.where(owns, credit[:, None], 0.0), axis=0).to(value.dtype)
    values = tl.where(owned, of_owner, value)
    inside = t < T
    written = tl.load(response_mask + row * mask_row + t * mask_column, mask=inside, other=0)
    tl.store(tokens + row * T + t, values * written, mask=inside)
