"""Metrics and warnings about groups: without spread, or with a floor above rewards."""

import re

import pytest

from shape_grpo.advantage import CandidateBatch, CandidateRecord, candidate_metrics
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import DroppedGroups, StepMetrics
from tests.verl.fake_queue import scored

EMPTY = CandidateRecord()


@pytest.fixture
def said():
    return []


def measure(said, groups, watch=None, **block):
    """The metrics of groups of two responses."""
    config = ShapeGRPOConfig(**block)
    records = [record for group in groups for record in group]
    batch = CandidateBatch.collate(records)
    watch = watch or StepMetrics(config, "rollout.n", said.append)
    index = [number // 2 for number in range(len(records))]
    shares = batch.compute_shares(config.method)
    return watch(records, index, [4] * len(records), batch, shares)


SPREAD = {
    # groups, how many have no spread, whether that is said
    "different": ([(scored(1.0), scored(2.0))] * 3, 0, None),
    "a constant reward": ([(scored(1.0, 1.0), scored(1.0))] * 3, 3, "3 of 3 .* same .1 in 3.*"),
    "with malformed answers": ([(scored(1.0), EMPTY)] * 3, 3, "1 in 3"),
    "no candidates at all": ([(EMPTY, EMPTY)] * 3, 3, "no candidates in 3"),
    "every value": ([(scored(x), scored(x)) for x in (1.0, 2, 2, 3, 4)], 5, "2 in 2, 1 in 1, .* 1"),
    "half of them": ([(scored(1.0), scored(1.0)), (scored(1.0), scored(2.0))], 1, None),
    "failures are not equal": ([(scored(None), scored(None)), (scored(1.0), scored(2.0))], 0, None),
    "one of them failed": ([(scored(1.0), scored(None))], 1, "1 in 1"),
}  # fmt: skip


@pytest.mark.parametrize(("groups", "count", "warning"), SPREAD.values(), ids=SPREAD)
def test_groups_without_spread_are_counted_and_said_with_their_value(said, groups, count, warning):
    metrics = measure(said, groups)
    assert metrics["shape_grpo/groups_without_spread"] == count
    assert len(said) == (warning is not None)
    if warning:
        assert re.search(warning, said[0])


def test_it_is_said_once(said):
    watch = StepMetrics(ShapeGRPOConfig(), "rollout.n", said.append)
    for _ in range(3):
        measure(said, [(scored(1.0), scored(1.0))], watch)
    assert len(said) == 1 and "rollout.n" in said[0]


REPEAT = CandidateRecord([-2.0, 0.0], [0, 1], [1, 2], floor_places=[1])
ABOVE = {
    "an empty answer above a set": ((EMPTY, scored(-4.0)), 0.0, 1),
    "a repeat above a reward of its own response": ((REPEAT, scored(3.0)), 0.0, 1),
    "both": ((REPEAT, EMPTY), 0.0, 1),  # The repeat makes its own set worth 0 as well.
    "of the same worth": ((EMPTY, scored(0.0)), 0.0, 0),
    "below": ((EMPTY, scored(-4.0)), -5.0, 0),
    "failed rewards have no worth": ((EMPTY, scored(None)), 0.0, 0),
}


@pytest.mark.parametrize(("group", "floor", "count"), ABOVE.values(), ids=ABOVE)
def test_a_floor_above_a_reward_is_counted_and_said(said, group, floor, count):
    group = [CandidateRecord(floor=floor) if record is EMPTY else record for record in group]
    metrics = measure(said, [group, (scored(-4.0), scored(-1.0))], floor_reward=floor)
    assert metrics["shape_grpo/floor_above_reward"] == count
    about = [text for text in said if text.startswith("floor_reward=0 is above")]
    assert len(about) == bool(count)
    assert all("floor_reward=lowest" in text for text in about)


FAR = {
    # scores of a step's answers with candidates, the floor, the block, whether it is said
    "an outlier of an earlier step": ([5.0, 4.0, 3.0], -1000.0, {}, True),
    "a number": ([5.0, 4.0, 3.0], -1000.0, {"floor_reward": -1000}, True),
    "malformed answers beside good ones": ([5.0, 4.999, 4.998], 0.0, {}, False),
    "the lowest of what is usual": ([-4.0, -1.0, -2.0], -10.0, {}, False),
    "all alike": ([5.0, 5.0, 5.0], -1000.0, {}, False),
    "normalised by group": (
        [5.0, 4.0, 3.0], -1000.0,
        {"reward_weights": {"a": 1.0}, "normalize_rewards": "group"}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("scores", "floor", "block", "is_said"), FAR.values(), ids=FAR)
def test_a_floor_far_below_the_rewards_is_said_once(said, scores, floor, block, is_said):
    watch = StepMetrics(ShapeGRPOConfig(**block), "rollout.n", said.append)
    groups = [(scored(score), CandidateRecord(floor=floor)) for score in scores]
    for _ in range(2):
        measure(said, groups, watch)
    about = [text for text in said if text.startswith("floor_reward=")]
    assert len(about) == is_said
    assert all("worth -1000," in text and "3 to 5" in text for text in about)


def test_metrics_never_end_a_run(said):
    config = ShapeGRPOConfig()
    watch = StepMetrics(config, "rollout.n", said.append)
    batch = CandidateBatch.collate([scored(1.0)])
    for _ in range(2):
        # One record too many: candidate_metrics raises.
        metrics = watch([scored(1.0), scored(2.0)], [0, 0], [4, 4], batch, None)
        assert metrics == {
            "shape_grpo/groups_without_spread": 0,
            "shape_grpo/floor_above_reward": 0,
        }
    assert len(said) == 1 and "records of 2" in said[0] and "The run goes on" in said[0]
    with pytest.raises(ValueError, match="records of 2"):
        candidate_metrics([scored(1.0), scored(2.0)], [4, 4], batch, None, config.method)


@pytest.mark.parametrize(("batches", "most"), [(0, 20), (-1, 20), (3, 3)])
def test_dropped_groups_end_the_run_after_some_batches(batches, most):
    drops = DroppedGroups(4, batches)
    drops.see([1.0] * 4 * most)
    drops.clear()
    drops.see([1.0] * 4 * most)
    with pytest.raises(
        RuntimeError, match=rf"dropped {4 * most + 1} groups .* 1 in {4 * most}, 0 in 1"
    ):
        drops.see([0.0])
