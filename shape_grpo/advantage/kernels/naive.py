"""Plain reference of the Triton kernel, for tests and for reading."""

from torch import Tensor


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
