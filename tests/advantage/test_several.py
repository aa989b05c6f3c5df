"""Several rewards per candidate, scaled within the group, against plain loops."""

import statistics

import pytest
import torch

from shape_grpo.advantage import CandidateBatch, CandidateRecord, candidate_metrics, scale_rewards
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import read_result

WEIGHTS = {"helpful": 0.7, "short": 0.3}


def record(*parts, floor=()):
    """A response whose candidates have these pairs of numbers, None after a failure."""
    rewards = [None if pair is None else 0.7 * pair[0] + 0.3 * pair[1] for pair in parts]
    numbers = {
        name: [None if pair is None else pair[place] for pair in parts]
        for place, name in enumerate(WEIGHTS)
    }
    return CandidateRecord(
        rewards=[*rewards, *floor],
        starts=[0] * (len(parts) + len(floor)),
        ends=[1] * (len(parts) + len(floor)),
        parts={name: [*values, *[None] * len(floor)] for name, values in numbers.items()},
        floor_places=list(range(len(parts), len(parts) + len(floor))),
    )


def test_each_number_is_divided_by_its_spread_in_the_group():
    a = record((1.0, 100.0), (3.0, 300.0), None)
    b = record((2.0, 500.0), floor=[-1.0])
    other = record((10.0, 0.0), (20.0, 0.0))
    scaled = scale_rewards([a, other, b], ["p", "q", "p"], WEIGHTS)
    helpful, short = statistics.stdev([1, 3, 2]), statistics.stdev([100, 300, 500])
    expected = [0.7 * h / helpful + 0.3 * s / short for h, s in ((1, 100), (3, 300), (2, 500))]
    assert scaled[0].rewards == [pytest.approx(expected[0]), pytest.approx(expected[1]), None]
    assert scaled[2].rewards == [pytest.approx(expected[2]), -1.0]
    # short does not differ in the group q, so that it counts 0.
    spread = statistics.stdev([10, 20])
    assert scaled[1].rewards == pytest.approx([0.7 * 10 / spread, 0.7 * 20 / spread])
    assert a.rewards[0] == pytest.approx(30.7)


def test_no_scale_wins():
    """A number in other units changes nothing."""
    small = [record((1.0, 2.0), (2.0, 1.0)), record((4.0, 1.0))]
    large = [record((1.0, 2000.0), (2.0, 1000.0)), record((4.0, 1000.0))]
    first, second = (
        [reward for each in scale_rewards(group, [0, 0], WEIGHTS) for reward in each.rewards]
        for group in (small, large)
    )
    assert first == pytest.approx(second)


def test_the_configuration_asks_for_it():
    records = [record((1.0, 2.0), (2.0, 1.0))]
    assert ShapeGRPOConfig(reward_weights=WEIGHTS).training_records(records, [0]) is records
    config = ShapeGRPOConfig(reward_weights=WEIGHTS, normalize_rewards="group")
    assert config.training_records(records, [0]) == scale_rewards(records, [0], WEIGHTS)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"normalize_rewards": "group"}, "normalize_rewards=group: write reward_weights"),
        ({"normalize_rewards": "batch"}, "normalize_rewards=batch: unknown value"),
        ({"reward_weights": {"a": 1.0, "score": 1.0}}, "names score, which has another meaning"),
        ({"reward_weights": {"a": 0.0}}, "must be finite numbers, not all 0"),
        ({"reward_weights": {"a": float("nan")}}, "must be finite numbers"),
        ({"reward_weights": {"a": 1.0}, "utility": "coverage"}, "coverage takes no sum"),
        ({"reward_weights": {"a": 1.0}, "utility": "oracle"}, "oracle takes no sum"),
        (
            {
                "reward_weights": {"a": 1.0},
                "utility": "distinct_n",
                "normalize_rewards": "group",
            },
            "distinct_n is split before the group is known",
        ),
    ],
)
def test_what_cannot_be_is_refused(block, message):
    with pytest.raises(ValueError, match=message):
        ShapeGRPOConfig(**block)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"helpful": 1.0}, "names short, .* has only helpful"),
        (3.0, "names helpful, short, .* has only score"),
        ({"helpful": 1.0, "short": None}, "returned .*'short': None"),
        ({"helpful": "0.5", "short": 1.0}, "returned .*text is no number"),
        ({"helpful": float("nan"), "short": 1.0}, "returned nan"),
    ],
)
def test_a_result_without_the_numbers_fails(result, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read_result(result, "text", ShapeGRPOConfig(reward_weights=WEIGHTS))


def test_the_weighted_sum_is_the_score():
    result = {"helpful": torch.tensor(1.0), "short": 2, "score": 99.0}
    config = ShapeGRPOConfig(reward_weights=WEIGHTS)
    score, details = read_result(result, "text", config)
    assert score == details["score"] == pytest.approx(1.3)


def test_each_number_has_its_curves():
    records = [record((1.0, 5.0), (3.0, 4.0), None), record((2.0, 8.0)), CandidateRecord()]
    method = ShapeGRPOConfig().method
    batch = CandidateBatch.collate(records)
    metrics = candidate_metrics(records, [1, 1, 1], batch, batch.compute_shares(method), method)
    curves = {name: value for name, value in metrics.items() if "/reward/" in name}
    assert curves == pytest.approx(
        {
            "shape_grpo/reward/helpful/mean": 2.0,
            "shape_grpo/reward/helpful/best": 2.5,
            "shape_grpo/reward/short/mean": 17 / 3,
            "shape_grpo/reward/short/best": 6.5,
        }
    )
