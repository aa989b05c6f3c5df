"""What the kernels compute, as plainly as torch can say it; for tests and for reading."""

import torch
from torch import Tensor

from shape_grpo.credit import credit_weights


def scatter(
    candidate: Tensor, shared: Tensor, starts: Tensor, ends: Tensor, response_mask: Tensor
) -> Tensor:
    """As `shape_grpo.advantage.scatter_candidate_advantages`."""
    n, t = response_mask.shape
    tokens = shared.to(candidate.dtype).unsqueeze(1).repeat(1, t)
    for row in range(n):
        for k in range(candidate.shape[1]):
            tokens[row, starts[row, k] : ends[row, k]] = candidate[row, k]
    return tokens.mul_(response_mask)


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
    """As `shape_grpo.advantage.kernels.reweight.reweight_max`."""
    weights = credit_weights(
        rewards.double(), mask, lengths, utility="max", length_correction=length_correction
    )
    candidate = (weights * shared.double().unsqueeze(1)).to(shared.dtype)
    empty = torch.zeros_like(starts)
    return scatter(
        candidate, shared, starts.where(mask, empty), ends.where(mask, empty), response_mask
    )
