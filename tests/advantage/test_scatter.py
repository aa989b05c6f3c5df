"""Advantages of candidates onto tokens, held against a plain loop."""

import numpy as np
import pytest
import torch

from shape_grpo.advantage import scatter_candidate_advantages
from tests.advantage.random_batch import random_spans

SHAPES = [
    # responses, tokens, candidates
    (0, 5, 2),
    (3, 0, 2),
    (1, 1, 1),
    (4, 7, 0),
    (2, 3, 8),
    (5, 33, 3),
    (3, 257, 9),
    (7, 100, 40),
]

MASKS = {
    "all ones": lambda g, n, t: torch.ones(n, t),
    "bool with holes": lambda g, n, t: torch.tensor(g.random((n, t)) < 0.7),
    "int64 with holes": lambda g, n, t: torch.tensor(g.integers(0, 2, (n, t))),
    "float64 with holes": lambda g, n, t: torch.tensor(g.integers(0, 2, (n, t)).astype(float)),
    "bfloat16 fractions": lambda g, n, t: torch.tensor(g.random((n, t))).bfloat16(),
    "padding on the right": lambda g, n, t: torch.arange(t) < torch.arange(n).unsqueeze(1),
    "another stride": lambda g, n, t: torch.tensor(g.random((t, n)) < 0.5).T,
}


def plain_loop(candidate, shared, starts, ends, response_mask):
    tokens = torch.empty(response_mask.shape, dtype=candidate.dtype)
    starts, ends = starts.tolist(), ends.tolist()
    for i in range(response_mask.shape[0]):
        for t in range(response_mask.shape[1]):
            value = shared[i]
            for k in range(candidate.shape[1]):
                if starts[i][k] <= t < ends[i][k]:
                    value = candidate[i, k]
            tokens[i, t] = value * response_mask[i, t]
    return tokens


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_plain_loop(shape, mask):
    n, t, k = shape
    generator = np.random.default_rng(n + t + k)
    candidate = torch.tensor(generator.normal(size=(n, k)), dtype=torch.float32)
    shared = torch.tensor(generator.normal(size=n), dtype=torch.float32)
    starts, ends = random_spans(generator, n, t, k)
    response_mask = mask(generator, n, t)
    inputs = [x.clone() for x in (candidate, shared, starts, ends, response_mask)]

    tokens = scatter_candidate_advantages(candidate, shared, starts, ends, response_mask)
    assert tokens.dtype == torch.float32
    assert torch.equal(tokens, plain_loop(*inputs))
    for given, before in zip((candidate, shared, starts, ends, response_mask), inputs, strict=True):
        assert torch.equal(given, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("span_dtype", [torch.int64, torch.int32, torch.uint8])
def test_dtypes_and_strides(dtype, span_dtype):
    """Values too far apart to survive a running sum."""
    candidate = torch.tensor([[1e4, 3e-4, -0.1], [0.1, -1e4, 7.0]], dtype=dtype).T
    shared = torch.tensor([1e-4, 1e4, -3.0], dtype=dtype)
    starts = torch.tensor([[4, 1], [0, 5], [2, 44]]).to(span_dtype)
    ends = torch.tensor([[6, 4], [5, 9], [2, 45]]).to(span_dtype)
    response_mask = torch.arange(300).expand(3, 300) % 7 != 0
    tokens = scatter_candidate_advantages(candidate, shared, starts, ends, response_mask)
    assert tokens.dtype == dtype
    assert torch.equal(tokens, plain_loop(candidate, shared, starts, ends, response_mask))


MASK_DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
]


@pytest.mark.parametrize("tokens_in_cache", [1, 70, 2**16], ids="{} tokens in cache".format)
@pytest.mark.parametrize("mask_dtype", MASK_DTYPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_masks_of_every_type(dtype, mask_dtype, tokens_in_cache, monkeypatch):
    """The plain loop's bits, with whole weights and fractions, one response per chunk or many."""
    monkeypatch.setattr("shape_grpo.advantage.scatter.TOKENS_IN_CACHE", tokens_in_cache)
    generator = np.random.default_rng(0)
    candidate = torch.tensor(generator.normal(size=(7, 3)), dtype=dtype)
    shared = torch.tensor(generator.normal(size=7), dtype=dtype)
    starts, ends = random_spans(generator, 7, 20, 3)
    weights = torch.tensor(generator.choice([0, 0.3, 1, 2, 1 / 3], (7, 20)))
    response_mask = weights.to(mask_dtype)
    tokens = scatter_candidate_advantages(candidate, shared, starts, ends, response_mask)
    assert tokens.dtype == dtype
    assert torch.equal(tokens, plain_loop(candidate, shared, starts, ends, response_mask))


def scatter_one(spans, *, tokens=10, **options):
    starts, ends = torch.tensor(spans).T.unsqueeze(1)
    candidate = torch.arange(1.0, len(spans) + 1).unsqueeze(0)
    return scatter_candidate_advantages(
        candidate, torch.zeros(1), starts, ends, torch.ones(1, tokens), **options
    )[0].tolist()


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_by_hand(backend):
    spans = [(5, 8), (1, 3), (3, 5), (6, 6)]  # touching, one empty inside another
    assert scatter_one(spans, backend=backend) == [0, 2, 2, 3, 3, 1, 1, 1, 0, 0]


def test_no_gradient():
    candidate = torch.ones(1, 1, requires_grad=True)
    at = torch.zeros(1, 1, dtype=torch.int64)
    tokens = scatter_candidate_advantages(candidate, torch.ones(1), at, at + 1, torch.ones(1, 2))
    assert not tokens.requires_grad


REFUSED_SPANS = {
    "overlapping": [(0, 4), (3, 6)],
    "nested": [(0, 9), (3, 6)],
    "the same twice": [(2, 4), (2, 4)],
    "past the last token": [(8, 11)],
    "before the first": [(-1, 3)],
    "backwards": [(6, 2)],
}


@pytest.mark.parametrize("spans", REFUSED_SPANS.values(), ids=REFUSED_SPANS.keys())
def test_refused_spans(spans):
    with pytest.raises(ValueError, match="spans of response 0 overlap, run backwards or leave"):
        scatter_one(spans)


def test_refusal_names_the_response_and_its_spans():
    starts, ends = torch.tensor([[0, 4], [5, 2]]), torch.tensor([[3, 6], [9, 6]])
    with pytest.raises(ValueError, match=r"response 1 .* its 12 tokens: \[\(2, 6\), \(5, 9\)\]"):
        scatter_candidate_advantages(
            torch.ones(2, 2), torch.ones(2), starts, ends, torch.ones(2, 12)
        )


def test_refused_backend():
    with pytest.raises(ValueError, match="backend 'cuda'; use one of: auto, torch, triton"):
        scatter_one([(0, 1)], backend="cuda")


REFUSED_SHAPES = {
    "one candidate too many": ((2, 4), (2,), (2, 3), (2, 9)),
    "one shared value for all": ((2, 3), (1,), (2, 3), (2, 9)),
    "mask of other responses": ((2, 3), (2,), (2, 3), (1, 9)),
    "no batch dimension": ((3,), (), (3,), (9,)),
}


@pytest.mark.parametrize("shapes", REFUSED_SHAPES.values(), ids=REFUSED_SHAPES.keys())
def test_refused_shapes(shapes):
    candidate, shared, spans, response_mask = map(torch.zeros, shapes)
    spans = spans.long()
    with pytest.raises(ValueError, match=r"shapes must be \(N, K\)"):
        scatter_candidate_advantages(candidate, shared, spans, spans, response_mask)


REFUSED_TYPES = {
    "whole-number advantages": (torch.int64, torch.float32, torch.int64, torch.bool, "cpu"),
    "whole-number shared": (torch.float32, torch.int64, torch.int64, torch.bool, "cpu"),
    "fractional spans": (torch.float32, torch.float32, torch.float32, torch.bool, "cpu"),
    "complex mask": (torch.float32, torch.float32, torch.int64, torch.complex64, "cpu"),
    "mask elsewhere": (torch.float32, torch.float32, torch.int64, torch.bool, "meta"),
}


@pytest.mark.parametrize("types", REFUSED_TYPES.values(), ids=REFUSED_TYPES.keys())
def test_refused_types_and_devices(types):
    candidate, shared, spans, mask, device = types
    at = torch.zeros(2, 3, dtype=spans)
    with pytest.raises(ValueError, match=r"types must be|on one device") as error:
        scatter_candidate_advantages(
            torch.zeros(2, 3, dtype=candidate),
            torch.zeros(2, dtype=shared),
            at,
            at,
            torch.zeros(2, 9, dtype=mask, device=device),
        )
    assert "\n" not in str(error.value)
