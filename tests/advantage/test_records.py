import random
from collections import Counter

import pytest
import torch

from shape_grpo.advantage import CandidateBatch, CandidateRecord
from shape_grpo.candidates import Candidate, CandidateRules, CandidateSet


def test_json_keeps_everything():
    record = CandidateRecord([1.5, None], [0, 4], [3, 9], {"empty": 2}, "Traceback ...")
    assert CandidateRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("reward", "read"),
    [
        ([1, 0, 1], b"\1\0\1"),
        ([0.0, 0.0, 1.0], b"\0\0\1"),
        ([0] * 9, bytes(9)),
        (b"\1" * 8, b"\1" * 8),
        ([], b""),
        ([0.5, 1], [0.5, 1]),
        ([2, 0], [2, 0]),
    ],
)
def test_json_packs_vectors_of_zeros_and_ones_and_no_others(reward, read):
    record = CandidateRecord([reward, None, 1.0], [0, 1, 2], [1, 2, 3])
    assert CandidateRecord.from_json(record.to_json()).rewards == [read, None, 1.0]


def test_a_record_of_64_candidates_and_100_tests_each_is_small():
    generator = random.Random(0)
    passed = [[float(generator.random() < 0.5) for _ in range(100)] for _ in range(64)]
    cuts = sorted(generator.sample(range(4096), 128))
    record = CandidateRecord(passed, cuts[::2], cuts[1::2], distinct=64)
    assert len(record.to_json()) < 2250
    read = CandidateRecord.from_json(record.to_json())
    assert [list(reward) for reward in read.rewards] == passed


def test_a_floor_reward_is_not_asked_for():
    written = [Candidate(text, n, n + 1) for n, text in enumerate(["a", "A", "b"])]
    rules = CandidateRules(duplicate="floor")
    found = CandidateSet.from_candidates(written, [(0, 1), (1, 2), (2, 3)], rules)
    assert found.problem_counts == Counter(duplicate=1)
    record = CandidateRecord.from_results(found, [1.0, 0.0, "Traceback"], found.problem_counts)
    assert (record.num_asked, record.num_errors) == (2, 1)
    assert CandidateRecord.from_json(record.to_json()) == record


def test_a_record_holds_the_texts_of_the_candidates_that_count():
    written = [Candidate("The Hobbit", 0, 10), Candidate("", 12, 12), Candidate("Emma", 14, 18)]
    rules = CandidateRules()
    found = CandidateSet.from_candidates(written, [(0, 2), (3, 3), (4, 6)], rules)
    record = CandidateRecord.from_results(found, [1.0, 2.0], found.problem_counts)
    assert record.texts == ["The Hobbit", "Emma"]
    assert (record.starts, record.ends) == ([0, 4], [2, 6])
    assert CandidateRecord.from_json(record.to_json()) == record


def test_a_record_of_an_earlier_version_has_no_texts():
    old = {"rewards": [1.0], "starts": [0], "ends": [2], "problem_counts": {}, "error": None}
    assert CandidateRecord.from_fields(old).texts == []


def test_a_response_that_a_format_failed_on_has_no_score_and_no_tokens():
    record = CandidateRecord.unread("Traceback ...")
    assert record.is_unknown and (record.num_asked, record.num_errors) == (1, 1)
    assert CandidateRecord.from_json(record.to_json()) == record
    batch = CandidateBatch.collate([record, CandidateRecord([1.0], [0], [2])])
    assert batch.unknown.tolist() == [True, False]
    assert not batch.mask[0].any() and not batch.ends[0].any()


def test_unknown_means_candidates_and_not_one_reward():
    assert not CandidateRecord().is_unknown
    assert not CandidateRecord([None, 2.0], [0, 1], [1, 2]).is_unknown
    assert CandidateRecord([None, None], [0, 1], [1, 2]).is_unknown


def test_collate_pads_and_gives_unscored_candidates_no_tokens():
    batch = CandidateBatch.collate(
        [
            CandidateRecord([1.0, None, 3.0], [1, 4, 7], [3, 6, 9]),
            CandidateRecord(),
            CandidateRecord([2.0], [5], [8]),
        ]
    )
    assert batch.mask.tolist() == [[True, False, True], [False] * 3, [True, False, False]]
    assert batch.starts.tolist() == [[1, 0, 7], [0, 0, 0], [5, 0, 0]]
    assert batch.ends.tolist() == [[3, 0, 9], [0, 0, 0], [8, 0, 0]]
    assert batch.rewards[batch.mask].tolist() == [1.0, 3.0, 2.0]
    assert batch.unknown.tolist() == [False, False, False]


def test_collate_of_a_batch_without_any_candidate():
    batch = CandidateBatch.collate([CandidateRecord(), CandidateRecord()])
    assert batch.rewards.shape == batch.starts.shape == (2, 0)
    assert batch.token_counts(torch.ones(2, 5)).shape == (2, 0)


def test_collate_of_vectors_pads_them_with_tests_not_passed():
    records = [
        CandidateRecord([[1, 0, 1], None, []], [1, 4, 7], [3, 6, 9]),
        CandidateRecord(),
        CandidateRecord([[1.0]], [5], [8]),
    ]
    batch = CandidateBatch.collate(records, vectors=True)
    assert batch.rewards.shape == (3, 3, 3) and batch.rewards.dtype == torch.float32
    assert batch.mask.tolist() == [[True, False, True], [False] * 3, [True, False, False]]
    assert batch.rewards[batch.mask].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert batch.starts.tolist() == [[1, 0, 7], [0, 0, 0], [5, 0, 0]]


@pytest.mark.parametrize("records", [[], [CandidateRecord()], [CandidateRecord([[]], [0], [1])]])
def test_collate_of_vectors_that_hold_nothing(records):
    batch = CandidateBatch.collate(records, vectors=True)
    width = max((len(record.rewards) for record in records), default=0)
    assert batch.rewards.shape == (len(records), width, 1)
    assert batch.mask.all()


def test_token_counts_leave_out_tokens_the_policy_did_not_write():
    batch = CandidateBatch.collate([CandidateRecord([1.0, 1.0], [0, 3], [3, 6])])
    mask = torch.tensor([[1, 0, 1, 1, 1, 1, 0]])
    assert batch.token_counts(mask).tolist() == [[2, 3]]
