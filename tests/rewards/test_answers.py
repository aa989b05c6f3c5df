"""Warnings about responses that are cut off or hold no candidates."""

import pytest

from shape_grpo.advantage import CandidateRecord
from shape_grpo.rewards.answers import BATCHES, AnswerWatch

FULL = CandidateRecord([1.0], [0], [1])
EMPTY = CandidateRecord()
UNREAD = CandidateRecord.unread("Traceback")


@pytest.fixture
def said():
    return []


@pytest.fixture
def watch(said):
    return AnswerWatch(48, "data.max_response_length", "Some are in run.samples.md.", said.append)


def see(watch, batches, lengths, records):
    for _ in range(batches):
        watch.see(lengths, records)


def test_most_responses_at_the_limit_are_one_warning(watch, said):
    see(watch, BATCHES - 1, [48] * 10, [FULL] * 10)
    assert said == []
    see(watch, 3 * BATCHES, [48] * 10, [FULL] * 10)
    (warning,) = said
    assert "100% of the responses" in warning and "data.max_response_length=48" in warning
    assert "Some are in run.samples.md." in warning


@pytest.mark.parametrize(
    ("lengths", "records", "warnings"),
    [
        ([48] * 9 + [20], [FULL] * 10, 1),
        ([48] * 8 + [20] * 2, [FULL] * 10, 0),
        ([20] * 10, [EMPTY] * 5 + [FULL] * 5, 1),
        ([20] * 10, [EMPTY] * 4 + [FULL] * 6, 0),
        ([20] * 10, [UNREAD] * 10, 0),  # counted as errors, which end the run
        ([48] * 10, [EMPTY] * 10, 2),
    ],
)
def test_shares_decide(watch, said, lengths, records, warnings):
    see(watch, BATCHES, lengths, records)
    assert len(said) == warnings


def test_one_batch_is_not_enough_and_a_good_one_counts(watch, said):
    for number in range(4 * BATCHES):
        good = number % BATCHES == 0
        watch.see([20 if good else 48] * 10, [FULL] * 10)
    assert said == []


def test_no_responses_say_nothing(watch, said):
    see(watch, 2 * BATCHES, [], [])
    assert said == []
