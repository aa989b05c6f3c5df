"""Duplicates by identity, for responses of every kind under every rule."""

import asyncio
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shape_grpo.candidates import RULES, Candidate, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import RewardFunction, candidate_arguments

steady = settings(deadline=None, derandomize=True)
ROW = {"data_source": "", "reward_model": {"ground_truth": ""}}


def settled(candidates, function, **block):
    """The scored set of candidates: texts, or texts with False where they are unclosed."""
    config = ShapeGRPOConfig(floor_reward=-1.0, **block)
    pairs = [each if isinstance(each, tuple) else (each, True) for each in candidates]
    written = [Candidate(text, n, n, closed) for n, (text, closed) in enumerate(pairs)]
    found = CandidateSet.from_candidates(written, [(n, n) for n in range(len(written))], config)
    reward_function = RewardFunction(function, config)
    return asyncio.run(reward_function.score_set(found, partial(candidate_arguments, ROW)))


def by_letters(solution_str, **_):
    """Its identity is the text as it is written, in which case counts."""
    return {"score": float(len(solution_str)), "identity": solution_str}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first", [("Alien", False), ("", True)])
def test_a_candidate_that_was_dropped_makes_no_later_one_a_duplicate(first, rule):
    """One that a turn left open, which the next turn repeats; one without a visible letter."""
    second = "Alien" if first[0] else "\u200b"
    scored = settled([first, second], by_letters, duplicate=rule)
    assert [each.problem for each in scored.found.checked][1] is None
    assert scored.record.texts == [second]
    assert scored.record.rewards == [float(len(second))]


def test_a_later_one_repeats_a_truncated_one_that_counts():
    scored = settled([("Alien", False), "Alien"], by_letters, truncated="score", duplicate="floor")
    assert [each.problem for each in scored.found.checked] == ["truncated", "duplicate"]
    assert scored.record.rewards == [5.0, -1.0]


def test_a_candidate_that_failed_is_compared_by_its_text():
    def fails_on_capitals(solution_str, **_):
        return {"score": 1.0 / solution_str.islower(), "identity": solution_str}

    scored = settled(["Alien", "alien", "dune", "DUNE"], fails_on_capitals, duplicate="drop")
    # alien and DUNE were asked about once dune had an identity, because they are other letters.
    assert scored.record.texts == ["Alien", "alien", "dune"]
    assert scored.record.rewards == [None, 1.0, 1.0]


def test_room_that_a_duplicate_by_text_takes_makes_later_ones_surplus():
    scored = settled(["a", "A", "b"], by_letters, duplicate="drop", max_candidates=2)
    assert scored.record.texts == ["a", "A"]
    assert scored.record.problem_counts == {"surplus": 1}


TEXTS = st.sampled_from(["", "a", "A", "a;", "b", "B ", "\u200b", "c"])
IDENTITIES = st.dictionaries(st.sampled_from("aAbBc;"), st.sampled_from([None, 1, 2]))
BLOCKS = st.fixed_dictionaries(
    {
        **{name: st.sampled_from(RULES) for name in ("truncated", "empty", "duplicate", "surplus")},
        "max_candidates": st.sampled_from([None, 1, 2, 3]),
    }
)


@steady
@given(st.lists(st.tuples(TEXTS, st.booleans()), max_size=7), IDENTITIES, BLOCKS, TEXTS)
def test_every_set_is_settled(candidates, identities, block, failing):
    def function(solution_str, **_):
        if solution_str == failing:
            raise ValueError
        return {"score": 2.0, "identity": identities.get(solution_str.strip()[-1:])}

    scored = settled([(text.strip(" "), closed) for text, closed in candidates], function, **block)
    record, checked = scored.record, scored.found.checked
    assert len(checked) == len(candidates)
    kept = [each for each in checked if each.counts]
    assert record.texts == [each.candidate.text for each in kept]
    for each, reward in zip(kept, record.rewards, strict=True):
        expected = {"floor": -1.0, "score": None if each.candidate.text == failing else 2.0}
        assert reward == expected[each.rule]
        assert each.problem is None or each.rule == block[each.problem]
    names = [each.name for each in checked if each.problem is None]
    assert len(names) == len(set(names))
    plain = [each for each in kept if each.problem != "surplus"]
    assert len(plain) <= (block["max_candidates"] or 1024)


SAME_OR_NOT = [
    # two identities, number of duplicates, reason
    (3, 3.0, 1, "a number is what it counts"),
    (3, "3", 1, "numbers are compared as text"),
    (np.int64(3), torch.tensor(3), 1, "numbers of NumPy and torch"),
    (0, "", 0, "0 and the empty text are identities"),
    (None, None, 0, "unknown: two texts are two candidates"),
    (math.nan, math.nan, 0, "a missing number of a table is unknown"),
    (math.inf, math.inf, 1, "infinity is a number"),
    (True, 1.5, 0, "two numbers"),
]


@pytest.mark.parametrize(("one", "two", "duplicates", "reason"), SAME_OR_NOT)
def test_what_an_identity_may_be(one, two, duplicates, reason):
    identities = {"a": one, "b": two}
    results = {text: {"score": 1.0, "identity": identity} for text, identity in identities.items()}
    scored = settled(["a", "b"], lambda solution_str, **_: results[solution_str])
    assert scored.found.problem_counts["duplicate"] == duplicates
    assert scored.record.num_errors == 0


@pytest.mark.parametrize("identity", [[1], {"film": 3}, object(), np.array([1, 2]), b"film"])
def test_another_identity_costs_its_candidate(identity):
    scored = settled(["a"], lambda **_: {"score": 1.0, "identity": identity})
    assert scored.record.num_errors == 1 and "write text or a number" in scored.record.error
