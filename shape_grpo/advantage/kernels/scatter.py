"""The scatter in Triton: one write of the output, one read of the mask.

A program writes one block of one response's tokens. The few numbers of the response's spans come
from the cache; those that do not touch the block cost one comparison.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048
"""Tokens a program writes."""


def scatter(
    candidate: Tensor, shared: Tensor, starts: Tensor, ends: Tensor, response_mask: Tensor
) -> Tensor:
    """As `shape_grpo.advantage.scatter_candidate_advantages`, which checks the arguments."""
    (n, k), t = candidate.shape, response_mask.shape[1]
    tokens = torch.empty(n, t, dtype=candidate.dtype, device=candidate.device)
    if not tokens.numel():
        return tokens
    block = min(BLOCK, triton.next_power_of_2(t))
    _scatter_kernel[(n, triton.cdiv(t, block))](
        candidate,
        shared.to(candidate.dtype),
        starts,
        ends,
        response_mask,
        tokens,
        *(t, k),
        *candidate.stride(),
        *shared.stride(),
        *starts.stride(),
        *ends.stride(),
        *response_mask.stride(),
        BLOCK=block,
    )
    return tokens


@triton.jit
def _scatter_kernel(
    candidate,
    shared,
    starts,
    ends,
    response_mask,
    tokens,
    T,
    K,
    candidate_row,
    candidate_column,
    shared_row,
    starts_row,
    starts_column,
    ends_row,
    ends_column,
    mask_row,
    mask_column,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    t = first + tl.arange(0, BLOCK)
    value = tl.load(shared + row * shared_row)
    values = tl.full([BLOCK], 0, value.dtype) + value
    for k in range(K):
        start = tl.load(starts + row * starts_row + k * starts_column).to(tl.int64)
        end = tl.load(ends + row * ends_row + k * ends_column).to(tl.int64)
        if (start < first + BLOCK) & (end > first):
            value = tl.load(candidate + row * candidate_row + k * candidate_column)
            values = tl.where((t >= start) & (t < end), value, values)
    inside = t < T
    mask = tl.load(response_mask + row * mask_row + t * mask_column, mask=inside, other=0)
    tl.store(tokens + row * T + t, values * mask, mask=inside)
