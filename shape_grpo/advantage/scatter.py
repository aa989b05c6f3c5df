"""From the advantages of candidates to the advantages of tokens."""

import torch
from torch import Tensor

BACKENDS = ("auto", "torch")


@torch.no_grad()
def scatter_candidate_advantages(
    candidate: Tensor,
    shared: Tensor,
    starts: Tensor,
    ends: Tensor,
    response_mask: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Give each response token the advantage of its candidate, or its response's outside of all.

    Args:
        candidate: (N, K) floating advantages of candidates.
        shared: (N,) advantages of the tokens outside every candidate, same type.
        starts: (N, K) first token of each candidate, integers; the columns in any order.
        ends: (N, K) one past the last. ``start == end`` is an empty span: a candidate without
            tokens, or padding.
        response_mask: (N, T) bool, integer or floating; multiplies the result, so 0 gives 0.
        backend: One of `BACKENDS`.

    Returns:
        (N, T) in the type of ``candidate``: ``candidate[i, k]`` at the tokens
        ``starts[i, k] <= t < ends[i, k]``, elsewhere ``shared[i]``, times the mask.

    Raises:
        ValueError: An unknown backend, shapes that do not fit, or spans that overlap, run backwards
            or leave the T tokens.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; use one of: {', '.join(BACKENDS)}")
    rows = candidate.shape[:1]
    if (
        candidate.dim() != 2
        or not candidate.shape == starts.shape == ends.shape
        or not rows == shared.shape == response_mask.shape[:-1]
    ):
        shapes = [tuple(t.shape) for t in (candidate, shared, starts, ends, response_mask)]
        raise ValueError(f"shapes must be (N, K), (N,), (N, K), (N, K), (N, T), not {shapes}")
    return _scatter_torch(candidate, shared, starts, ends, response_mask)


def _scatter_torch(
    candidate: Tensor, shared: Tensor, starts: Tensor, ends: Tensor, response_mask: Tensor
) -> Tensor:
    """One value and one length for each of a row's 2K + 1 runs of tokens, then repeated."""
    (n, k), t = candidate.shape, response_mask.shape[1]
    # An empty span may stand anywhere, inside another one too: send it to the end.
    empty = starts == ends
    starts, order = starts.long().masked_fill(empty, t).sort(dim=1)
    ends = ends.long().masked_fill(empty, t).gather(1, order)

    bounds = starts.new_zeros(n, 2 * k + 2)
    bounds[:, 1:-1:2], bounds[:, 2:-1:2], bounds[:, -1] = starts, ends, t
    lengths = bounds.diff(dim=1)
    if (lengths < 0).any():
        row = int((lengths < 0).any(dim=1).nonzero()[0])
        spans = list(zip(starts[row].tolist(), ends[row].tolist(), strict=True))
        raise ValueError(
            f"spans of response {row} overlap, run backwards or leave its {t} tokens: {spans}"
        )
    values = shared.to(candidate.dtype).unsqueeze(1).repeat(1, 2 * k + 1)
    values[:, 1::2] = candidate.gather(1, order)
    # int32 lengths halve the memory of the token-wise index that repeat_interleave builds.
    tokens = torch.repeat_interleave(
        values.flatten(), lengths.flatten().to(torch.int32), output_size=n * t
    )
    return tokens.view(n, t).mul_(response_mask)
