"""The reward of a summary, compared with rouge_score itself and with counts by hand."""

import pytest
from rouge_score.rouge_scorer import RougeScorer

from reward_fns.aclsum_rouge import compute_score, rouge_scorer

REFERENCE = "They propose a parser which learns from chat messages."


@pytest.mark.parametrize(
    ("summary", "reason"),
    [
        (REFERENCE, "the reference itself"),
        ("They propose a method for parsing.", "some words in common"),
        ("messages chat from learns which parser a propose They", "right words, wrong order"),
        ("THEY PROPOSED PARSERS, LEARNING!", "case, endings and punctuation do not count"),
        ("A parser.\nIt learns from\nchat messages.", "several lines"),
        (REFERENCE + " " + REFERENCE, "twice as long"),
    ],
)
def test_mean_of_three_f1_scores(summary, reason):
    f1 = [
        RougeScorer([kind], use_stemmer=True).score(REFERENCE, summary)[kind].fmeasure
        for kind in ("rouge1", "rouge2", "rougeL")
    ]
    reward = compute_score("aclsum", summary, REFERENCE)
    assert reward == pytest.approx(sum(f1) / 3), reason
    assert 0 < reward <= 1


def test_counted_by_hand():
    # Four words against two: "parsers learn" are 2 of 4 and 2 of 2 words (F1 2/3), 1 of 3 and 1
    # of 1 bigrams (F1 1/2), and a common subsequence of 2 (F1 2/3).
    assert compute_score("aclsum", "parsers learn", "good parsers learn fast") == pytest.approx(
        (2 / 3 + 1 / 2 + 2 / 3) / 3
    )


@pytest.mark.parametrize(
    ("summary", "reason"),
    [("", "empty"), (" \n", "white space"), ("...", "punctuation"), ("电影", "no Latin letters")],
)
def test_no_word_scores_zero(summary, reason):
    assert compute_score("aclsum", summary, REFERENCE) == 0.0, reason


@pytest.mark.parametrize("reference", ["", "...", "电影"])
def test_reference_that_rouge_cannot_count_is_an_error(reference):
    with pytest.raises(ValueError, match="ground_truth"):
        compute_score("aclsum", "A parser.", reference)


def test_called_as_verl_calls_it():
    arguments = {
        "data_source": "aclsum",
        "solution_str": REFERENCE,
        "ground_truth": REFERENCE,
        "extra_info": {"candidate_index": 0, "num_candidates": 3},
        "reward_router_address": None,
    }
    assert compute_score(**arguments) == pytest.approx(1.0)


def test_scorer_is_made_once():
    assert rouge_scorer() is rouge_scorer()
