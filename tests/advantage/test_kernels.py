"""The Triton kernel: on the GPU if there is one, else under Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shape_grpo.advantage import scatter_candidate_advantages
from shape_grpo.advantage.kernels import naive
from shape_grpo.advantage.kernels.scatter import BLOCK
from tests.advantage.random_batch import random_spans

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SHAPES = [
    # responses, tokens, candidates
    (0, 5, 2),
    (3, 0, 2),
    (1, 1, 1),
    (4, 7, 0),
    (5, 33, 3),
    (3, 257, 9),
    (2, 2 * BLOCK + 1, 5),
    (2, 600, 256),
]
MASKS = {
    "bool with holes": lambda g, n, t: torch.tensor(g.random((n, t)) < 0.7),
    "int64 with holes": lambda g, n, t: torch.tensor(g.integers(0, 2, (n, t))),
    "float32 with holes": lambda g, n, t: torch.tensor(g.integers(0, 2, (n, t))).float(),
    "another stride": lambda g, n, t: torch.tensor(g.random((t, n)) < 0.5).T,
}


def inputs(shape, dtype=torch.float32, mask="bool with holes"):
    n, t, k = shape
    generator = np.random.default_rng(n + t + k)
    candidate = torch.tensor(generator.normal(size=(n, k))).to(dtype)
    shared = torch.tensor(generator.normal(size=n)).to(dtype)
    starts, ends = random_spans(generator, n, t, k)
    response_mask = MASKS[mask](generator, n, t)
    return [x.to(DEVICE) for x in (candidate, shared, starts, ends, response_mask)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scatter_gives_the_bits_of_the_other_backends(shape, mask):
    arguments = inputs(shape, mask=mask)
    before = [x.clone() for x in arguments]
    expected = naive.scatter(*arguments)
    for backend in ("triton", "torch"):
        assert torch.equal(scatter_candidate_advantages(*arguments, backend=backend), expected)
    assert all(torch.equal(x, y) for x, y in zip(arguments, before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("span_dtype", [torch.int64, torch.int32])
def test_scatter_of_every_type(dtype, span_dtype):
    """A mask of zeros and ones changes no value, so that no type needs a tolerance."""
    candidate, shared, starts, ends, mask = inputs((5, 33, 3), dtype)
    spans = starts.to(span_dtype), ends.to(span_dtype)
    tokens = scatter_candidate_advantages(candidate, shared, *spans, mask, backend="triton")
    assert tokens.dtype == dtype
    assert torch.equal(tokens, naive.scatter(candidate, shared, *spans, mask))


def test_scatter_of_strided_inputs():
    candidate, shared, starts, ends, mask = inputs((5, 33, 4))
    columns = slice(None, None, 2)
    arguments = candidate[:, columns], shared, starts[:, columns], ends[:, columns], mask
    assert not arguments[0].is_contiguous()
    tokens = scatter_candidate_advantages(*arguments, backend="triton")
    assert torch.equal(tokens, naive.scatter(*arguments))


def test_fractional_masks_multiply():
    candidate, shared, starts, ends, _ = inputs((5, 33, 3))
    mask = torch.rand(5, 33, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    for dtype, tolerance in ((torch.float32, 0), (torch.bfloat16, 2**-8), (torch.float64, 2**-23)):
        arguments = candidate, shared, starts, ends, mask.to(dtype)
        tokens = scatter_candidate_advantages(*arguments, backend="triton")
        torch.testing.assert_close(tokens, naive.scatter(*arguments), rtol=tolerance, atol=0)


@pytest.mark.parametrize("spans", [[(0, 4), (3, 6)], [(6, 2), (0, 1)], [(8, 11), (0, 1)]])
def test_overlapping_spans_are_refused_in_debug_mode(spans):
    starts, ends = torch.tensor(spans, device=DEVICE).T.unsqueeze(1)
    arguments = (
        torch.ones(1, 2, device=DEVICE),
        torch.zeros(1, device=DEVICE),
        starts,
        ends,
        torch.ones(1, 10, device=DEVICE),
    )
    with pytest.raises(ValueError, match="spans of response 0 overlap"):
        scatter_candidate_advantages(*arguments, backend="triton", debug=True)
    scatter_candidate_advantages(*arguments, backend="triton")


def test_auto_is_triton_on_a_gpu_alone(monkeypatch):
    arguments = inputs((5, 33, 3))
    calls = []
    module = "shape_grpo.advantage.kernels.scatter.scatter"
    monkeypatch.setattr(module, lambda *a: calls.append(a) or naive.scatter(*a))
    scatter_candidate_advantages(*arguments)
    assert bool(calls) == (DEVICE == "cuda")


def test_the_kernel_compiles_for_gpus_and_stores_16_bytes_at_a_time():
    """For sm_80 and sm_90, which need not be there."""
    script = Path(__file__).with_name("compile_kernel.py")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(";") for line in result.stdout.splitlines()]
    assert len(lines) == 2 * 3
    for *compiled, stores in lines:
        assert stores == "st.global.v4.b32", compiled
