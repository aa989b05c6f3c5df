"""Vectors from a reward function to the record: projected once, or the failure of one candidate."""

import asyncio
from functools import partial
from statistics import fmean

import pytest

from shape_grpo.candidates import Candidate, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import RewardFunction, candidate_arguments

ROW = {"data_source": "films", "reward_model": {"ground_truth": ""}, "extra_info": {}}
VECTORS = {"a": [3.0, 0.0, 1.0], "b": [0.0, 2.0, 0.5], "c": [1, 1, 1]}


def score(texts, draw="", function=lambda solution_str, **_: VECTORS[solution_str], **block):
    config = ShapeGRPOConfig(**block)
    written = [Candidate(text, n, n) for n, text in enumerate(texts)]
    found = CandidateSet.from_candidates(written, [(n, n) for n in range(len(written))], config)
    reward_function = RewardFunction(function, config, log_failures=False)
    arguments = partial(candidate_arguments, ROW)
    record = asyncio.run(reward_function.score_set(found, arguments, draw)).record
    return config, record


def weightings(**options):
    return {"utility": "weightings", "utility_options": {"components": 3, **options}}


def test_the_records_vectors_are_weighted_and_the_score_is_the_mean_of_the_bests():
    config, record = score("abc", "step 7", **weightings(number=5))
    weights = config.method.utility.weights("step 7").tolist()
    expected = [
        [sum(a * b for a, b in zip(w, VECTORS[text], strict=True)) / 5 for w in weights]
        for text in "abc"
    ]
    assert record.rewards == [pytest.approx(row) for row in expected]
    bests = [5 * max(row[w] for row in expected) for w in range(5)]
    assert config.score(record) == pytest.approx(fmean(bests))


def test_equal_draws_have_equal_weights_and_others_have_not():
    (_, one), (_, same), (_, other) = (score("a", draw, **weightings()) for draw in "775")
    assert one.rewards == same.rewards != other.rewards


def test_corners_are_the_components():
    config, record = score("ab", **weightings(corners=True))
    assert record.rewards[0] == pytest.approx([1, 0, 1 / 3])
    assert config.score(record) == pytest.approx((3 + 2 + 1) / 3)


BY_NAME = dict.fromkeys((1, 0, 2), 1.0)
WRONG = [
    [1.0, 2.0],
    [1.0, 2.0, 3.0, 4.0],
    [],
    [-1.0, 0.0, 0.0],
    [float("nan")] * 3,
    {"score": BY_NAME},  # its keys are numbers
    {"score": BY_NAME.keys()},
    {1.0, 0.0, 2.0},
    frozenset({1.0, 0.0, 2.0}),
    b"\x01\x00\x02",
    bytearray(b"101"),
    memoryview(b"101"),
    "102",
    ["1", "0", "2"],
    [b"1", b"0", b"2"],
]
"""Three components were expected."""


@pytest.mark.parametrize("wrong", WRONG)
def test_a_vector_of_another_kind_costs_its_candidate(wrong):
    _, record = score(
        "ab",
        function=lambda solution_str, **_: wrong if solution_str == "b" else [1, 2, 3],
        **weightings(),
    )
    assert [reward is None for reward in record.rewards] == [False, True]
    assert "weightings takes vectors of 3 finite numbers of 0 and more" in record.error


@pytest.mark.parametrize("wrong", [b"5", bytearray(b"5"), "5", {"score": b"5"}])
def test_bytes_and_text_are_no_numbers(wrong):
    _, record = score("ab", function=lambda solution_str, **_: wrong if solution_str == "b" else 1)
    assert record.rewards == [1.0, None]
    assert f"returned {wrong['score'] if isinstance(wrong, dict) else wrong!r}" in record.error


def test_duplicates_under_the_floor_have_vectors_of_nothing():
    config, record = score("aab", duplicate="floor", **weightings())
    assert record.rewards[1] == []
    assert config.score(record) == pytest.approx(config.score(score("ab", **weightings())[1]))


@pytest.mark.parametrize("utility", ["coverage", "best_per_component"])
def test_other_vectors_are_as_the_function_returned_them(utility):
    _, record = score("c", "step 7", utility=utility)
    assert record.rewards == [[1.0, 1.0, 1.0]]
