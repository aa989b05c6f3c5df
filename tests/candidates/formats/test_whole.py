import pytest

from shape_grpo.candidates import CandidateRules, find_candidates, parse_candidates
from shape_grpo.candidates.formats import Whole
from tests.candidates.formats.finding import check_prefixes, texts
from tests.candidates.special_tokenizers import encode, tokenizer_with

CASES = [
    ("a\n\n1. b", ["a\n\n1. b"], "all of it"),
    (" \n a \n", ["a"], "white space around"),
    ("", [""], "nothing, which the rule for empty candidates decides about"),
]


@pytest.mark.parametrize(("text", "expected", "reason"), CASES, ids=[case[2] for case in CASES])
def test_whole(text, expected, reason):
    assert texts(Whole(), text) == expected


def test_prefixes():
    check_prefixes(Whole(), "a <candidate>b</candidate> c")


def test_thoughts_are_no_part_of_it():
    found = parse_candidates("<think>a or b?</think> b it is", format="whole")
    assert [candidate.text for candidate in found] == ["b it is"]


@pytest.mark.parametrize("cut", [False, True])
def test_the_token_that_ends_a_turn_is_no_part_of_it_and_a_cut_answer_is_truncated(cut):
    tokenizer = tokenizer_with("<start_of_turn>", "<end_of_turn>")
    ids = encode(tokenizer, "Alien" if cut else "Alien<end_of_turn>")
    for rule, expected in (("drop", []), ("score", ["Alien"])):
        rules = CandidateRules("whole", truncated=rule)
        found = find_candidates(tokenizer, ids, rules, cut=cut)
        assert found.texts == (expected if cut else ["Alien"])


def test_it_writes_one_answer():
    assert Whole().write(["a"]) == "a"
    assert Whole().write(["a", "b"]) is None
