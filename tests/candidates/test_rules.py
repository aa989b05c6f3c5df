"""What counts as a candidate of a response, and what is to be scored."""

import pytest

from shape_grpo.candidates import CandidateRules, decode_response, find_candidates
from tests.candidates.sample_tokenizers import make_tokenizer


@pytest.fixture(scope="module")
def find():
    """find(text, **rules) -> the set, found in the text's tokens."""
    tokenizer = make_tokenizer("byte_level_bpe")

    def run(text, *, cut=False, **rules):
        ids = tokenizer(text)["input_ids"]
        assert decode_response(tokenizer, ids) == text
        found = find_candidates(tokenizer, ids, CandidateRules(**rules), cut=cut)
        assert len(found.candidates) == len(found.texts) == len(found.spans)
        for candidate, (start, end) in zip(found.candidates, found.spans, strict=True):
            assert candidate.text in decode_response(tokenizer, ids[start:end])
        return found

    return run


def tagged(*texts):
    return " ".join(f"<candidate>{text}</candidate>" for text in texts)


TEXTS = [
    # text, rules, texts to be scored (None: the floor reward), problems, why
    (tagged("a", "b"), {}, ["a", "b"], {}, "nothing is wrong"),
    ("", {}, [], {}, "an empty response"),
    ("no tags", {}, [], {}, "no candidates"),
    ("<candidate>", {}, [], {"truncated": 1}, "a tag, and the end"),
    (tagged("a") + "<candidate>b</cand", {}, ["a"], {"truncated": 1}, "a tag cut in half"),
    (tagged("a") + "<candidate>b", {"truncated": "score"}, ["a", "b"], {"truncated": 1}, "score"),
    (tagged("a") + "<candidate>b", {"truncated": "floor"}, ["a", None], {"truncated": 1}, "floor"),
    (tagged("a") + "<candidate>a", {}, ["a"], {"truncated": 1}, "a truncated repeat is truncated"),
    (tagged("", "a", " \n"), {}, ["a"], {"empty": 2}, "no text, or white space alone"),
    (tagged("", "a"), {"empty": "floor"}, [None, "a"], {"empty": 1}, "floor"),
    (tagged("", "a"), {"empty": "score"}, ["", "a"], {"empty": 1}, "score"),
    (tagged("", ""), {"duplicate": "floor"}, [], {"empty": 2}, "two of no text are empty"),
    (tagged("a", "A", " a "), {}, ["a", "A", "a"], {"duplicate": 2}, "case and white space"),
    (tagged("a", "A"), {"duplicate": "drop"}, ["a"], {"duplicate": 1}, "the first one stays"),
    (tagged("a b", "a  B"), {"duplicate": "floor"}, ["a b", None], {"duplicate": 1}, "inner space"),
    (tagged("STRASSE", "straße"), {"duplicate": "drop"}, ["STRASSE"], {"duplicate": 1}, "casefold"),
    (tagged("a", "b", "c"), {"max_candidates": 2}, ["a", "b"], {"surplus": 1}, "one too many"),
    (
        tagged("a", "b", "c", "d"),
        {"max_candidates": 1, "surplus": "floor"},
        ["a", None, None, None],
        {"surplus": 3},
        "every one beyond the limit, not the next alone",
    ),
    (
        tagged("a", "b", "c"),
        {"max_candidates": 1, "surplus": "score"},
        ["a", "b", "c"],
        {"surplus": 2},
        "score",
    ),
    (tagged("a", "a"), {"max_candidates": 1}, ["a"], {"surplus": 1}, "a surplus repeat is surplus"),
    (
        tagged("", "a", "b"),
        {"max_candidates": 2},
        ["a", "b"],
        {"empty": 1},
        "dropped ones do not count towards the limit",
    ),
    (
        tagged("a", "a", "b"),
        {"max_candidates": 2, "duplicate": "floor"},
        ["a", None],
        {"duplicate": 1, "surplus": 1},
        "those with the fixed reward do",
    ),
    ("<think>" + tagged("a") + "</think>" + tagged("b"), {}, ["b"], {}, "a thought"),
    (
        "<think>" + tagged("a") + "</think>" + tagged("b"),
        {"ignore_thoughts": False},
        ["a", "b"],
        {},
        "a thought that counts",
    ),
    ("1. a\n2. A", {"format": "numbered", "duplicate": "drop"}, ["a"], {"duplicate": 1}, "a list"),
]


@pytest.mark.parametrize(("text", "rules", "texts", "problems", "why"), TEXTS)
def test_each_rule_on_texts_that_need_it(find, text, rules, texts, problems, why):
    found = find(text, **rules)
    assert (found.texts, dict(found.problem_counts)) == (texts, problems), why


@pytest.mark.parametrize(("cut", "texts"), [(False, ["a", "b"]), (True, ["a"])])
def test_only_the_length_limit_truncates_a_list(find, cut, texts):
    assert find("1. a\n2. b", format="numbered", cut=cut).texts == texts


def test_the_length_limit_truncates_no_closed_tag(find):
    assert find(tagged("a", "b"), cut=True).texts == ["a", "b"]


def test_distinct_texts_are_counted_among_those_to_be_scored(find):
    assert find(tagged("a", "A", "b", ""), empty="floor").num_distinct == 2


def test_by_default_a_response_that_never_stops_has_64_candidates(find):
    found = find(tagged(*map(str, range(100))))
    assert len(found.texts) == 64 and found.problem_counts == {"surplus": 36}
    assert found.texts[-1] == "63"


@pytest.mark.parametrize("rules", [{"max_candidates": None}, {"surplus": "floor"}])
def test_no_rule_keeps_more_than_1024(find, rules):
    found = find(tagged(*map(str, range(1030))), **rules)
    assert len(found.texts) == 1024
    limit = CandidateRules(**rules).max_candidates
    assert found.problem_counts == {"surplus": 1030 - (limit or 1024)}


def test_who_allows_more_gets_more(find):
    found = find(tagged(*map(str, range(1100))), max_candidates=1090)
    assert len(found.texts) == 1090 and found.problem_counts == {"surplus": 10}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"duplicate": "droop"}, r"duplicate=droop: .*Did you mean drop\?.*score, floor, drop"),
        ({"format": "json"}, r"format=json: unknown value\. Allowed: xml, numbered"),
        ({"max_candidates": 0}, "max_candidates=0: must be 1 or more"),
    ],
)
def test_rules_there_are_none_of_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        CandidateRules(**rules)
