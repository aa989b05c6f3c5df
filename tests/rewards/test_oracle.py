"""The utility oracle: each subset is asked about once, and shares are the definition's."""

import asyncio
import itertools
from dataclasses import replace
from functools import partial

import pytest

from shape_grpo.advantage import (
    ADVANTAGES,
    CandidateBatch,
    CandidateRecord,
    candidate_advantages,
)
from shape_grpo.candidates import Candidate, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import allocate, make_allocator, make_utility
from shape_grpo.rewards import RewardFunction, candidate_arguments
from tests.credit import oracles

ROW = {"data_source": "", "reward_model": {"ground_truth": "abc"}, "extra_info": {}}
LETTERS = ["ab", "bcd", "a", "dxy", "cc", "zzz", "q", "by"]


def letters(solutions):
    """Number of letters, and a bonus for two texts that need each other."""
    return len(set("".join(solutions))) + 3.0 * ({"ab", "dxy"} <= set(solutions))


def score(function, texts, keywords=None, **block):
    config = ShapeGRPOConfig(utility="oracle", **block)
    written = [Candidate(text, n, n) for n, text in enumerate(texts)]
    found = CandidateSet.from_candidates(written, [(n, n) for n in range(len(written))], config)
    reward_function = RewardFunction(function, config, keywords)
    scored = asyncio.run(reward_function.score_set(found, partial(candidate_arguments, ROW)))
    return scored.record, config


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize(
    ("allocator", "options", "expected"),
    [
        ("shapley", {}, oracles.all_orders),
        ("leave_one_out", {}, oracles.without_one),
        (
            "beta_shapley",
            {"alpha": 3, "beta": 1},
            oracles.by_sizes(
                lambda n: make_allocator("beta_shapley", alpha=3, beta=1).sizes(n).tolist()
            ),
        ),
    ],
)
def test_shares_are_exact(count, allocator, options, expected):
    calls = []

    def utility(solutions):
        calls.append(tuple(solutions))
        return letters(solutions)

    texts = LETTERS[:count]
    record, _ = score(utility, texts, allocator=allocator, allocator_options=options)
    shares = expected(lambda chosen: letters(chosen) if chosen else 0.0, texts) if texts else []
    assert record.shares == pytest.approx(shares)
    assert record.value == (pytest.approx(letters(texts)) if texts else None)
    assert record.rewards == [letters([text]) for text in texts]
    assert len(calls) == len(set(calls)) <= 63


@pytest.mark.parametrize("count", [7, 8, 10])
def test_larger_sets_are_estimated_within_the_limit(count):
    calls = []

    def utility(solutions):
        calls.append(tuple(solutions))
        return letters(solutions)

    texts = [*LETTERS, "other", "words"][:count]
    record, _ = score(utility, texts)
    assert len(calls) == len(set(calls)) <= 64
    assert sum(record.shares) == pytest.approx(letters(texts))


@pytest.mark.parametrize(("k", "calls"), [(1, 10), (2, 46), (8, 46), (9, 10), (20, 10)])
def test_a_law_of_few_sizes_needs_no_estimate(k, calls):
    texts = [*LETTERS, "other"]
    asked = []

    def utility(solutions):
        asked.append(tuple(solutions))
        return letters(solutions)

    record, _ = score(utility, texts, allocator="best_of_k", allocator_options={"k": k})
    law = oracles.by_sizes(lambda n: make_allocator("best_of_k", k=k).sizes(n).tolist())
    assert record.shares == pytest.approx(law(lambda s: letters(s) if s else 0.0, texts))
    assert len(asked) == len(set(asked)) == calls + 9 * (k > 7)


def test_the_estimate_is_exact_for_a_sum():
    texts = [str(10**n) for n in range(9)]
    record, _ = score(lambda solutions: float(sum(map(int, solutions))), texts)
    assert record.shares == pytest.approx([10.0**n for n in range(9)])


def test_leave_one_out_needs_few_calls_for_many_candidates():
    texts = [str(n) for n in range(20)]
    record, _ = score(
        lambda solutions: max(map(float, solutions)), texts, allocator="leave_one_out"
    )
    assert record.shares == [0.0] * 19 + [1.0]


def test_too_many_candidates_for_the_calls():
    record, _ = score(lambda solutions: 1.0, [str(n) for n in range(30)])
    assert record.is_unknown
    assert "max_calls=64 is too few for 30 candidates: write" in record.error


def test_a_candidate_that_fails_alone_leaves_its_set():
    def utility(solutions):
        if "bad" in solutions:
            raise ValueError("bad")
        return letters(solutions)

    record, _ = score(utility, ["ab", "bad", "dxy"])
    assert record.rewards == [2.0, None, 3.0]
    assert record.shares == [pytest.approx(3.5), None, pytest.approx(4.5)]
    assert record.value == 8.0


@pytest.mark.parametrize("result", [None, "1", float("inf"), [1.0]])
def test_a_subset_that_fails_costs_the_response(result):
    record, config = score(lambda solutions: 1.0 if len(solutions) < 3 else result, "abc")
    assert record.rewards == [None] * 3
    assert record.is_unknown
    assert (record.shares, config.score(record)) == ([], 0.0)


def test_candidates_under_the_rule_floor_add_their_reward():
    record, config = score(letters, ["ab", "ab", "dxy"], duplicate="floor", floor_reward=-1.0)
    assert record.rewards == [2.0, -1.0, 3.0]
    assert record.shares == [pytest.approx(3.5), -1.0, pytest.approx(4.5)]
    assert config.score(record) == pytest.approx(7.0)


def test_an_answer_without_candidates_has_the_floor_reward():
    record, config = score(letters, [], floor_reward=-2.0)
    assert config.score(record) == -2.0


def test_what_a_function_names_is_what_it_gets():
    def utility(solutions, ground_truth, scale=1):
        return scale * len(set(ground_truth) & set("".join(solutions)))

    record, _ = score(utility, ["ab", "bx"], {"scale": 2})
    assert (record.shares, record.value) == ([pytest.approx(3.0), pytest.approx(1.0)], 4.0)


def test_fallbacks_are_counted_and_identities_are_not_read():
    def utility(solutions):
        return {"score": 1.0, "fallback": "b" in solutions, "identity": "same"}

    record, _ = score(utility, "abc", duplicate="drop")
    assert (record.rewards, record.problem_counts) == ([1.0] * 3, {"fallback": 1})


async def slow_letters(solutions, **_):
    await asyncio.sleep(0)
    return letters(solutions)


def test_calls_of_a_response_are_concurrent():
    """One waits for another: called one after the other, they would run into the timeout."""
    arrived = []

    async def utility(solutions):
        arrived.append(solutions)
        while len(arrived) < 2:
            await asyncio.sleep(0.001)
        return 1.0

    record, _ = score(utility, ["a", "b"], reward_timeout=20.0)
    assert record.rewards == [1.0, 1.0]


def test_the_batch_has_the_records_shares():
    config = ShapeGRPOConfig(utility="oracle")
    records = [score(slow_letters, texts)[0] for texts in (LETTERS[:3], [], LETTERS[:5])]
    records.append(CandidateRecord.unread("no"))
    batch = CandidateBatch.collate([CandidateRecord.from_json(r.to_json()) for r in records])
    shares = batch.compute_shares(config.method)
    for row, record in enumerate(records):
        count = len(record.shares)
        assert shares.shares[row, :count].tolist() == record.shares
        assert shares.values[row].item() == (record.value or 0.0)
    assert batch.unknown.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("function", "block", "message"),
    [
        (lambda solution_str: 1.0, {"utility": "oracle"}, "no argument solutions: write utility"),
        (lambda solution_strs: [1.0], {"utility": "oracle"}, "has no argument solutions"),
        (lambda completions: [1.0], {"utility": "oracle"}, r"TRL utility\(solutions, "),
        (lambda solutions: 1.0, {}, "utility=max takes one reward per candidate"),
    ],
)
def test_a_function_of_another_kind_is_refused(function, block, message):
    with pytest.raises(ValueError, match=message):
        RewardFunction(function, ShapeGRPOConfig(**block))


def advantages(records, config):
    batch = CandidateBatch.collate(records)
    scores = [config.score(record) for record in records]
    own, shared = candidate_advantages(
        batch.rewards,
        batch.mask,
        batch.ends - batch.starts,
        ["p"] * len(records),
        config.method,
        scores=scores,
        shares=batch.compute_shares(config.method),
    )
    return own, shared


@pytest.mark.parametrize("advantage", sorted(ADVANTAGES))
def test_a_negative_utility_reverses_no_sign(advantage):
    """The good response's harmless candidate is never paid less than its harmful one."""
    harm = {"a": 0.0, "b": 0.3, "c": 0.5}

    def utility(solutions, scale):
        return -0.1 - scale * sum(map(harm.get, solutions))

    records = [score(utility, "abc", {"scale": scale})[0] for scale in (1.0, 3.0)]
    config = ShapeGRPOConfig(utility="oracle", advantage=advantage)
    (good, _), (shared, _) = advantages(records, config)
    assert shared > 0
    assert good[0] >= good[1] >= good[2]


@pytest.mark.parametrize("advantage", ["reweight", "reweight_positive", "normalize", "pooled"])
def test_the_best_of_negative_numbers_is_max(advantage):
    sets = [["-1", "-3", "-2.5"], ["-9", "-4"], []]
    config = ShapeGRPOConfig(advantage=advantage)
    oracle = ShapeGRPOConfig(utility="oracle", advantage=advantage)
    asked = [score(lambda solutions: max(map(float, solutions)), texts)[0] for texts in sets]
    plain = [replace(record, shares=[], value=None) for record in asked]
    for found, expected in zip(advantages(asked, oracle), advantages(plain, config), strict=True):
        assert found.flatten().tolist() == pytest.approx(expected.flatten().tolist())


@pytest.mark.parametrize("allocator", ["shapley", "banzhaf", "uniform", "winner_takes_all"])
def test_a_plan_has_what_its_allocator_reads(allocator):
    for count, limit in itertools.product(range(1, 9), (8, 64, 300)):
        oracle, kind = make_utility("oracle", max_calls=limit), make_allocator(allocator)
        try:
            plan = oracle.plan(count, kind)
        except ValueError as error:
            assert f"max_calls={limit} is too few for {count}" in str(error)
            continue
        assert len(set(plan.subsets)) == len(plan.subsets) <= limit
        values = {subset: float(len(subset)) for subset in plan.subsets}
        shares = allocate([[1.0] * count], utility=plan.bind(values), allocator=kind)
        assert shares.sum().item() == pytest.approx(count)


def test_a_plan_near_all_subsets_has_no_more_orders_than_calls():
    """The last subsets come late: orders are not drawn until all have come."""
    plan = make_utility("oracle", max_calls=2**10 - 2).plan(10, make_allocator("shapley"))
    assert (len(plan.subsets), plan.samples) == (pytest.approx(1020, abs=3), 1022)


@pytest.mark.parametrize(
    ("candidates", "options", "says"),
    [
        (30, {}, "max_calls=64 is too few for 30 candidates"),
        (8, {"max_calls": 5}, "max_calls=5 is too few for 8 candidates"),
    ],
)
def test_a_limit_that_the_candidates_exceed_is_a_wrong_configuration(candidates, options, says):
    with pytest.raises(ValueError, match=says):
        ShapeGRPOConfig(utility="oracle", max_candidates=candidates, utility_options=options)
