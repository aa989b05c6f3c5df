"""Reward functions that see all candidates of a response in one call."""

import asyncio
from functools import partial

import numpy as np
import pytest
import torch

from shape_grpo.candidates import Candidate, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import RewardFunction, candidate_arguments

ROW = {
    "data_source": "films",
    "reward_model": {"ground_truth": "a western"},
    "extra_info": {"index": 7},
}


def score(function, texts, keywords=None, **block):
    config = ShapeGRPOConfig(**block)
    written = [Candidate(text, n, n) for n, text in enumerate(texts)]
    found = CandidateSet.from_candidates(written, [(n, n) for n in range(len(written))], config)
    reward_function = RewardFunction(function, config, keywords)
    return asyncio.run(reward_function.score_set(found, partial(candidate_arguments, ROW))).record


def by_rank(solution_strs, **_):
    """Its result for one candidate depends on the others."""
    return [sorted(solution_strs).index(text) for text in solution_strs]


async def async_by_rank(solution_strs, **_):
    return by_rank(solution_strs)


def by_key(key, solution_strs, **_):
    return [sorted(solution_strs, key=key).index(text) for text in solution_strs]


def verls_wrapper(function, keywords, *args, **kwargs):
    return function(*args, **{**kwargs, **keywords})


@pytest.mark.parametrize(
    "function",
    [
        by_rank,
        async_by_rank,
        partial(by_key, str.lower),
        partial(verls_wrapper, by_rank, {}),
        partial(verls_wrapper, partial(by_key, str.lower), {}),
    ],
    ids=["sync", "async", "of a function", "in verl's wrapper", "of a function, wrapped"],
)
def test_one_call_ranks_all_candidates(function):
    assert score(function, ["c", "a", "b"]).rewards == [2.0, 0.0, 1.0]


def test_the_arguments_are_those_of_a_response():
    seen = []

    def compute_score(data_source, solution_strs, ground_truth, extra_info, scale):
        seen.append((data_source, solution_strs, ground_truth, extra_info, scale))
        return [1, 2]

    score(compute_score, ["a", "b", "a"], {"scale": 3}, duplicate="floor")
    ((source, texts, truth, info, scale),) = seen
    assert (source, texts, truth, scale) == ("films", ["a", "b"], "a western", 3)
    assert info["index"] == 7
    assert (info["candidate_indices"], info["num_candidates"]) == ([0, 1], 3)


def test_verls_own_batch_functions_work():
    def compute_score(data_sources, solution_strs, ground_truths, extra_infos):
        each = zip(data_sources, solution_strs, ground_truths, extra_infos, strict=True)
        return [len(text) + len(truth) + info["candidate_index"] for _, text, truth, info in each]

    assert score(compute_score, ["a", "bcd"]).rewards == [10.0, 13.0]


@pytest.mark.parametrize(
    "result",
    [
        (1, 2, 3),
        np.array([1.0, 2.0, 3.0]),
        torch.tensor([1, 2, 3]),
        (n for n in (1, 2, 3)),
        [{"score": 1}, 2.0, {"score": np.float32(3)}],
    ],
    ids=["tuple", "array", "tensor", "generator", "dicts"],
)
def test_any_list_will_do(result):
    assert score(lambda solution_strs, **_: result, "abc").rewards == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([1, 2], "returned 2 rewards, for 3 candidates"),
        ([1, 2, 3, 4], "returned 4 rewards, for 3 candidates"),
        ([], "returned 0 rewards, for 3 candidates"),
        (1.0, "returned 1.0, which is no list, for 3 candidates. Return a list"),
        (None, "returned None, which is no list"),
        ("123", "returned '123', which is no list"),
        ({"score": [1, 2, 3]}, "which is no list, for 3 candidates"),
    ],
)
def test_a_result_of_another_shape_costs_the_response(result, message):
    record = score(lambda solution_strs, **_: result, "abc")
    assert record.rewards == [None, None, None]
    assert record.is_unknown
    assert message in record.error


def test_a_call_that_raises_costs_the_response():
    def compute_score(solution_strs, **_):
        raise KeyError("judge")

    record = score(compute_score, "ab")
    assert (record.rewards, record.is_unknown) == ([None, None], True)
    assert "KeyError: 'judge'" in record.error


@pytest.mark.parametrize("entry", [None, "good", float("nan"), [1.0], {"points": 3}])
def test_a_bad_entry_costs_its_candidate_alone(entry):
    record = score(lambda solution_strs, **_: [1.0, entry, 3.0], "abc")
    assert record.rewards == [1.0, None, 3.0]


def test_a_hanging_call_costs_the_response_and_names_it():
    async def compute_score(solution_strs, **_):
        await asyncio.sleep(60)

    record = score(compute_score, ["Alien", "Brazil"], reward_timeout=0.05)
    assert record.rewards == [None, None]
    assert "'Alien', 'Brazil'" in record.error


def test_vectors():
    record = score(lambda solution_strs, **_: [[1, 0], [1, 1]], ["a", "b"], utility="coverage")
    assert record.rewards == [[1.0, 0.0], [1.0, 1.0]]


def test_no_candidate_no_call():
    def compute_score(solution_strs, **_):
        raise AssertionError

    assert score(compute_score, []).rewards == []
    assert score(compute_score, [""], empty="floor").rewards == [0.0]


def test_candidates_that_differ_by_identity_are_compared_together():
    """Texts that differ in case alone: the function is asked again, about all of them."""
    calls = []

    def compute_score(solution_strs, **_):
        calls.append(list(solution_strs))
        ranks = by_rank(solution_strs)
        return [
            {"score": rank, "identity": text}
            for rank, text in zip(ranks, solution_strs, strict=True)
        ]

    record = score(compute_score, ["us", "US", "it"], duplicate="drop")
    assert calls == [["us", "it"], ["us", "US", "it"]]
    assert record.texts == ["us", "US", "it"]
    assert record.rewards == [2.0, 0.0, 1.0]
