"""What counts as a candidate of a response, and what is to be scored."""

import pytest

from shape_grpo.candidates import (
    CandidateRules,
    decode_response,
    find_candidates,
    find_in_text,
)
from tests.candidates.sample_tokenizers import make_tokenizer
from tests.candidates.special_tokenizers import encode, tokenizer_with


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
    (tagged("a", "A", " a "), {}, ["a", None, None], {"duplicate": 2}, "case and white space"),
    (tagged("a", "A"), {"duplicate": "score"}, ["a", "A"], {"duplicate": 1}, "both are scored"),
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
        {"thoughts": "none"},
        ["a", "b"],
        {},
        "a thought that counts",
    ),
    (
        "<film>a</film>",
        {"format_options": {"tag": "film"}},
        ["a"],
        {},
        "options of the format",
    ),
    ("- a\n- A", {"format": "lines", "duplicate": "drop"}, ["- a"], {"duplicate": 1}, "lines"),
    ('["a", ""]', {"format": "json", "empty": "floor"}, ["a", None], {"empty": 1}, "an array"),
    ("```\na\n```\n```\nb", {"format": "fenced"}, ["a"], {"truncated": 1}, "code blocks"),
    (tagged("e\u0301", "é"), {"duplicate": "drop"}, ["e\u0301"], {"duplicate": 1}, "two forms"),
    (tagged("a\u200b", "a"), {"duplicate": "drop"}, ["a\u200b"], {"duplicate": 1}, "no width"),
    (tagged("\u0131", "i"), {"duplicate": "drop"}, ["\u0131", "i"], {}, "dotless i"),
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
        ({"format": "jason"}, r"format=jason: unknown value.*Did you mean json\?.*numbered.*xml"),
        ({"format_options": {"tga": "a"}}, r"format_options=.*tga"),
        ({"format": "regex"}, r"format_options=\{\}: .*needs the option 'pattern'"),
        ({"thoughts": "never"}, "thoughts=never: write auto"),
        ({"turns": "first"}, r"turns=first: .*last, all"),
        ({"max_candidates": 0}, "max_candidates=0: must be 1 or more"),
    ],
)
def test_rules_there_are_none_of_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        CandidateRules(**rules)


# --- turns ---


@pytest.fixture(scope="module")
def find_in_turns():
    """find_in_turns(written and other text in turn, **rules) -> the set, by tokens and by text."""
    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>")

    def run(parts, *, cut=False, **rules):
        ids, text, by_token, by_text = [], "", [], []
        for number, part in enumerate(parts):
            encoded = encode(tokenizer, part)
            if number % 2 == 0:
                by_token.append((len(ids), len(ids) + len(encoded)))
                by_text.append((len(text), len(text) + len(part)))
            ids += encoded
            text += part
        rules = CandidateRules(**rules)
        found = find_candidates(tokenizer, ids, rules, cut=cut, turns=by_token)
        in_text = find_in_text(text, rules, cut=cut, turns=by_text)
        assert found.texts == in_text.texts
        assert found.problem_counts == in_text.problem_counts
        for each, (start, end) in zip(found.kept, found.spans, strict=True):
            assert each.candidate.text in tokenizer.decode(ids[start:end])
        for candidate in in_text.candidates:
            assert text[candidate.start : candidate.end] == candidate.text
        assert in_text.spans == sorted(in_text.spans) and found.spans == sorted(found.spans)
        return found

    return run


TOOL = "<|im_start|>tool\n" + tagged("t") + "<|im_end|>\n<|im_start|>assistant\n"
TURNS = [
    ([tagged("a"), TOOL, tagged("b")], {}, ["b"], {}, "the last turn alone"),
    ([tagged("a"), TOOL, tagged("b")], {"turns": "all"}, ["a", "b"], {}, "never the tool's"),
    ([tagged("a"), TOOL, "none"], {}, [], {}, "a last turn without candidates"),
    ([tagged("a"), TOOL, ""], {"turns": "all"}, ["a"], {}, "an empty last turn"),
    ([tagged("a"), "<candidate>", tagged("b")], {"turns": "all"}, ["a", "b"], {}, "a tool's tag"),
    (
        ["<candidate>a", TOOL, "b</candidate>" + tagged("c")],
        {"turns": "all", "truncated": "floor"},
        [None, "c"],
        {"truncated": 1},
        "a candidate never goes on in another turn",
    ),
    (
        ["<candidate>a", TOOL, tagged("a")],
        {"turns": "all", "duplicate": "drop"},
        ["a"],
        {"truncated": 1},
        "a repeat of one that is cut off",
    ),
    (
        [tagged("a"), TOOL, tagged("A")],
        {"turns": "all", "duplicate": "drop"},
        ["a"],
        {"duplicate": 1},
        "a repeat in a later turn",
    ),
    (
        [tagged("a", "b"), TOOL, tagged("c")],
        {"turns": "all", "max_candidates": 2},
        ["a", "b"],
        {"surplus": 1},
        "the limit is that of the response",
    ),
    (
        ["<think>" + tagged("z"), TOOL, tagged("a")],
        {"turns": "all"},
        ["a"],
        {},
        "a thought ends with its turn",
    ),
    (
        [tagged("a"), TOOL + "<think>", tagged("z") + "</think>" + tagged("b")],
        {"turns": "all"},
        ["a", "b"],
        {},
        "a thought that the template opens",
    ),
]


@pytest.mark.parametrize(
    ("parts", "rules", "texts", "problems", "why"), TURNS, ids=[case[4] for case in TURNS]
)
def test_turns(find_in_turns, parts, rules, texts, problems, why):
    found = find_in_turns(parts, **rules)
    assert (found.texts, dict(found.problem_counts)) == (texts, problems)


@pytest.mark.parametrize("turns", ["last", "all"])
def test_the_length_limit_cuts_the_last_turn_alone(find_in_turns, turns):
    parts = ["1. a\n2. b", TOOL, "1. c\n2. d"]
    expected = {"last": ["c"], "all": ["a", "b", "c"]}[turns]
    assert find_in_turns(parts, cut=True, format="numbered", turns=turns).texts == expected
