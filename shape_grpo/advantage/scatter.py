"""From the advantages of candidates to the advantages of tokens."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

BACKENDS = ("auto", "torch", "triton")

TOKENS_IN_CACHE = 2**16
"""Tokens per chunk that a CPU fills and then masks: more would leave the cache in between."""


@torch.no_grad()
def scatter_candidate_advantages(
    candidate: Tensor,
    shared: Tensor,
    starts: Tensor,
    ends: Tensor,
    response_mask: Tensor,
    *,
    backend: str = "auto",
    debug: bool = False,
) -> Tensor:
    """Give each token the advantage of its candidate, or outside of all the one of its response.

    Args:
        candidate: (N, K) floating advantages of candidates.
        shared: (N,) floating advantages of the tokens outside every candidate.
        starts: (N, K) first token of each candidate, integers; the columns in any order.
        ends: (N, K) one past the last. ``start == end`` is an empty span: a candidate without
            tokens, or padding.
        response_mask: (N, T) bool, integer or floating; multiplies the result, so 0 gives 0.
        backend: One of `BACKENDS`. ``auto`` is ``triton`` for CUDA tensors, else ``torch``.
        debug: Check the spans under ``triton`` too, which has to wait for the device; ``torch``
            always does.

    Returns:
        (N, T) in the type of ``candidate``: ``candidate[i, k]`` at the tokens
        ``starts[i, k] <= t < ends[i, k]``, elsewhere ``shared[i]``, times the mask. In float32 all
        backends give the same bits.

    Raises:
        ValueError: An unknown backend, shapes, types or devices that do not fit, or spans that
            overlap, run backwards or leave the T tokens.
    """
    _check(candidate, shared, starts, ends, response_mask, backend)
    if backend == "auto":
        backend = "triton" if candidate.is_cuda else "torch"
    if backend == "torch":
        return _scatter_torch(candidate, shared, starts, ends, response_mask)
    if debug:
        _runs(candidate, shared, starts, ends, response_mask.shape[1])
    # Not installed where there is no GPU.
    from shape_grpo.advantage.kernels.scatter import scatter

    return scatter(candidate, shared, starts, ends, response_mask)


def _check(
    candidate: Tensor,
    shared: Tensor,
    starts: Tensor,
    ends: Tensor,
    response_mask: Tensor,
    backend: str,
) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; use one of: {', '.join(BACKENDS)}")
    arguments = (candidate, shared, starts, ends, response_mask)
    rows = candidate.shape[:1]
    if (
        candidate.dim() != 2
        or not candidate.shape == starts.shape == ends.shape
        or not rows == shared.shape == response_mask.shape[:-1]
    ):
        shapes = [tuple(t.shape) for t in arguments]
        raise ValueError(f"shapes must be (N, K), (N,), (N, K), (N, K), (N, T), not {shapes}")
    advantages = candidate.is_floating_point() and shared.is_floating_point()
    spans = not any(t.is_floating_point() or t.is_complex() for t in (starts, ends))
    if not advantages or not spans or response_mask.is_complex():
        types = [str(t.dtype).removeprefix("torch.") for t in arguments]
        raise ValueError(f"types must be float, float, int, int and any but complex, not {types}")
    if len({t.device for t in arguments}) > 1:
        raise ValueError(f"all must be on one device, not {[str(t.device) for t in arguments]}")


def _runs(
    candidate: Tensor, shared: Tensor, starts: Tensor, ends: Tensor, t: int
) -> tuple[Tensor, Tensor]:
    """Values and lengths, each (N, 2K + 1), of the runs of tokens that a response consists of.

    Raises:
        ValueError: Spans that overlap, run backwards or leave the tokens.
    """
    # An empty span may stand anywhere, inside another one too: send it to the end.
    empty = starts == ends
    starts, order = starts.long().masked_fill(empty, t).sort(dim=1)
    ends = ends.long().masked_fill(empty, t).gather(1, order)

    bounds = torch.stack([starts, ends], dim=2).flatten(1)
    lengths = pad(bounds, (0, 1), value=t) - pad(bounds, (1, 0))
    if (lengths < 0).any():
        row = int((lengths < 0).any(dim=1).nonzero()[0])
        spans = list(zip(starts[row].tolist(), ends[row].tolist(), strict=True))
        raise ValueError(
            f"spans of response {row} overlap, run backwards or leave its {t} tokens: {spans}"
        )
    outside = shared.to(candidate.dtype).unsqueeze(1)
    within = torch.stack([outside.expand_as(candidate), candidate.gather(1, order)], dim=2)
    return torch.cat([within.flatten(1), outside], dim=1), lengths


def _scatter_torch(
    candidate: Tensor, shared: Tensor, starts: Tensor, ends: Tensor, response_mask: Tensor
) -> Tensor:
    """Fill each run of tokens with its value, then multiply by the mask."""
    values, lengths = _runs(candidate, shared, starts, ends, response_mask.shape[1])
    # numpy has no bfloat16.
    if values.is_cpu and torch.bfloat16 not in (values.dtype, response_mask.dtype):
        return _fill_by_chunks(values, lengths, response_mask)
    total = response_mask.numel()
    tokens = torch.repeat_interleave(values.flatten(), lengths.flatten(), output_size=total)
    return tokens.view(response_mask.shape).mul_(response_mask)


def _fill_by_chunks(values: Tensor, lengths: Tensor, response_mask: Tensor) -> Tensor:
    """Fill and mask a few responses at a time, while their tokens are still in the cache.

    numpy fills runs where torch would index token by token: four times as fast.
    """
    n, t = response_mask.shape
    tokens = values.new_empty(n, t)
    runs, counts, mask, product = (x.numpy() for x in (values, lengths, response_mask, tokens))
    # As torch multiplies: whole numbers in the type of the values, fractions in the wider type.
    factor = mask.dtype if response_mask.is_floating_point() else runs.dtype
    rows = max(TOKENS_IN_CACHE // max(t, 1), 1)
    for first in range(0, n, rows):
        chunk = slice(first, first + rows)
        filled = runs[chunk].repeat(counts[chunk].ravel()).reshape(product[chunk].shape)
        factors = mask[chunk].astype(factor, copy=False)
        np.multiply(filled, factors, out=product[chunk], casting="same_kind")
    return tokens
