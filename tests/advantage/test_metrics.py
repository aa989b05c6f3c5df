import pytest

from shape_grpo.advantage import CandidateRecord
from tests.advantage.methods import candidate_metrics


def test_metrics_of_a_batch_worked_by_hand():
    records = [
        CandidateRecord([5.0, 4.0, 3.0], [0, 10, 20], [4, 16, 28], {"duplicate": 1}),
        CandidateRecord(
            [2.0, None], [0, 3], [2, 9], {"truncated": 2, "fallback": 1}, error="Traceback"
        ),
        CandidateRecord(),
    ]
    metrics = candidate_metrics(records, [30, 10, 10])
    # Lengths 4, 6, 8: mean 6, standard deviation sqrt(8/3). Shares 2.5, 1.5, 1.0: mean 5/3.
    spread = (((2.5 - 5 / 3) ** 2 + (1.5 - 5 / 3) ** 2 + (1 - 5 / 3) ** 2) / 3) ** 0.5 / (5 / 3)
    assert metrics == pytest.approx(
        {
            "shape_grpo/num_candidates": 4 / 3,
            "shape_grpo/responses_without_candidates": 1 / 3,
            "shape_grpo/candidate_reward": 14 / 4,
            "shape_grpo/best_candidate_reward": 7 / 2,
            "shape_grpo/candidate_length": 20 / 4,
            "shape_grpo/candidate_length_variation": (8 / 3) ** 0.5 / 6,
            "shape_grpo/candidate_token_share": 20 / 50,
            "shape_grpo/credit_spread": spread,
            "shape_grpo/negative_weights": 0,
            "shape_grpo/reward_errors": 1,
            "shape_grpo/reward_error_share": 1 / 5,
            "shape_grpo/truncated_candidates": 2,
            "shape_grpo/empty_candidates": 0,
            "shape_grpo/duplicate_candidates": 1,
            "shape_grpo/surplus_candidates": 0,
            "shape_grpo/fallback_candidates": 1,
        }
    )


def test_uniform_credit_has_no_spread():
    records = [CandidateRecord([5.0, 1.0], [0, 4], [4, 8])]
    metrics = candidate_metrics(records, [8], allocator="uniform")
    assert metrics["shape_grpo/credit_spread"] == 0.0


def test_a_candidate_that_harms_its_set_is_seen():
    """Shares under the mean: 5 and 0 have (1.5 * 5 - 0.5 * 0) / 2 and (0 - 0.5 * 5) / 2."""
    records = [CandidateRecord([5.0, 0.0], [0, 4], [4, 8])]
    metrics = candidate_metrics(records, [8], utility="mean")
    assert metrics["shape_grpo/negative_weights"] == 0.5


def test_vectors_of_tests_count_what_they_pass():
    records = [
        CandidateRecord([[1, 0, 1], [1, 0], None], [0, 4, 8], [4, 8, 9], error="Traceback"),
        CandidateRecord(),
    ]
    metrics = candidate_metrics(records, [10, 3], utility="coverage")
    assert metrics["shape_grpo/candidate_reward"] == 1.5
    assert metrics["shape_grpo/best_candidate_reward"] == 2
    assert metrics["shape_grpo/credit_spread"] == pytest.approx(0.5)


def test_a_batch_without_candidates_reports_no_made_up_means():
    metrics = candidate_metrics([CandidateRecord(), CandidateRecord()], [5, 7])
    assert metrics["shape_grpo/responses_without_candidates"] == 1.0
    assert "shape_grpo/best_candidate_reward" not in metrics
    assert "shape_grpo/credit_spread" not in metrics


def test_names_hold_no_word_by_which_verl_would_take_a_maximum_or_a_sum():
    records = [CandidateRecord([5.0, 1.0], [0, 4], [4, 8])]
    for name in candidate_metrics(records, [8]):
        assert not any(word in name for word in ("max", "min", "sum", "total"))


def test_distinct_candidates_are_averaged_where_they_are_known():
    records = [CandidateRecord([1.0, 1.0], [0, 2], [1, 3], distinct=n) for n in (1, 2)]
    assert candidate_metrics(records, [4, 4])["shape_grpo/distinct_candidates"] == 1.5
    unknown = [CandidateRecord([1.0], [0], [1])]
    assert "shape_grpo/distinct_candidates" not in candidate_metrics(unknown, [4])
