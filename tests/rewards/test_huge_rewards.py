"""Rewards of any magnitude: a failure of their candidate in words, or finite everywhere after."""

import itertools

import pytest
import torch

from shape_grpo.advantage import (
    ADVANTAGES,
    CandidateBatch,
    CandidateRecord,
    candidate_metrics,
    rollout_advantages,
    token_advantages,
)
from shape_grpo.config import LARGEST, ShapeGRPOConfig
from shape_grpo.rewards.function import further_numbers
from tests.rewards.test_floor import score_all

HUGE = {
    "float32's largest": 3e38,
    "negative": -3e38,
    "float64's largest": 1.7e308,
    "just too large": LARGEST * 1.01,
    "an integer that no float holds": 10**400,
    "an integer that Python does not print": 10**5000,
    "in a dict": {"score": 3e38},
}


@pytest.mark.parametrize("reward", HUGE.values(), ids=HUGE)
def test_a_huge_reward_costs_its_candidate(reward):
    def function(solution_str, **kwargs):
        return reward if solution_str == "huge" else 1.0

    (record,), (score,) = score_all([["huge", "a", "huge too"]], function)
    assert record.rewards == [None, 1.0, 1.0] and score == 1.0
    assert "The reward function returned" in record.error or "digits" in record.error


def test_it_says_what_a_reward_may_be():
    (record,), _ = score_all([["a"]], lambda **kwargs: 3e38)
    assert "a reward must be from -1e+12 to 1e+12" in record.error


def test_so_does_a_component_of_a_vector():
    def function(solution_str, **kwargs):
        return [1.0, 3e38] if solution_str == "huge" else [1.0, 2.0]

    (record,), _ = score_all([["huge", "a"]], function, utility="best_per_component")
    assert record.rewards == [None, [1.0, 2.0]]


def test_so_does_a_weighted_sum():
    block = {"reward_weights": {"a": 1e6, "b": 1.0}}
    answers = [["huge", "a"]]

    def function(solution_str, **kwargs):
        return {"a": 1e11 if solution_str == "huge" else 1.0, "b": 1.0}

    (record,), _ = score_all(answers, function, **block)
    assert record.rewards == [None, 1e6 + 1]
    with pytest.raises(ValueError, match=r"reward_weights.*must be from"):
        ShapeGRPOConfig(reward_weights={"a": 1e13})


def test_so_does_a_set_of_an_oracle():
    def function(solutions, **kwargs):
        return 1.0 if len(solutions) == 1 else 3e38

    (record,), (score,) = score_all([["a", "b"]], function, utility="oracle")
    assert record.rewards == [None, None] and score == 0.0


def test_further_numbers_that_are_huge_are_left_out():
    details = {"a": 3e38, "b": 10**400, "c": float("inf"), "d": float("nan"), "e": -2, "f": LARGEST}
    assert further_numbers(details) == {"e": -2.0, "f": LARGEST}


UTILITIES = {"max": {}, "sum": {}, "mean": {}, "top_m": {"m": 2}}
ALLOCATORS = ["shapley", "leave_one_out", "banzhaf", "winner_takes_all"]


@pytest.mark.parametrize("utility", UTILITIES)
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_below_the_bound_all_that_follows_is_finite(utility, allocator):
    """Sets of up to 64 candidates, under every advantage formula."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(-1, 2, (8, 64), generator=generator).double() * LARGEST
    signs[0], signs[1] = LARGEST, -LARGEST
    sets = [signs[row, : 1 + 9 * row % 64].tolist() for row in range(8)]
    records = [
        CandidateRecord(
            rewards, list(range(len(rewards))), list(range(1, len(rewards) + 1)),
            parts={"a": rewards},
        )
        for rewards in [sets[0], sets[0], *sets[2:], signs[0].tolist(), signs[1].tolist()]
    ]  # fmt: skip
    for advantage, by_std in itertools.product(ADVANTAGES, (True, False)):
        config = ShapeGRPOConfig(
            utility=utility, utility_options=UTILITIES[utility], allocator=allocator,
            advantage=advantage, norm_by_std=by_std,
        )  # fmt: skip
        batch = CandidateBatch.collate(records)
        shares = batch.compute_shares(config.method)
        scores = torch.tensor([config.score(record) for record in records])
        assert scores.dtype == torch.float32
        index = [row // 2 for row in range(len(records))]
        mask = torch.ones(len(records), 64)
        tokens, shared = token_advantages(batch, shares, scores, mask, index, config.method)
        assert tokens.isfinite().all() and shared.isfinite().all()
        metrics = candidate_metrics(records, [64] * len(records), batch, shares, config.method)
        assert torch.tensor([*metrics.values()]).isfinite().all()
        # As verl's own GRPO computes it, in float32.
        assert scores.std().isfinite()


def test_of_rollouts_it_leaves_its_set():
    from shape_grpo.verl.rollouts import compute_rollout_advantage

    rewards = torch.tensor([[1.0], [3e38], [0.0], [float("inf")]])
    options = {"shape_grpo": {"allocator": "best_of_k", "allocator_options": {"k": 1}}}
    found, _ = compute_rollout_advantage(rewards, torch.ones(4, 1), options, ["p"] * 4)
    method = ShapeGRPOConfig(**options["shape_grpo"]).method
    alone = rollout_advantages(torch.tensor([1.0, 0.0]), ["p", "p"], method).tolist()
    assert found.flatten().tolist() == pytest.approx([alone[0], 0.0, alone[1], 0.0])
