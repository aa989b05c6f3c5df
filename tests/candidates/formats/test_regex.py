import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_grpo.candidates.formats import Regex
from tests.candidates.formats.finding import check_prefixes, found, steady, texts

CASES = [
    (r"(?m)^- (.+)$", "- a\n- b \nc", ["a", "b"], "lines"),
    (r"(?i)film: (?P<title>\w+)", "Film: a, FILM: b", ["a", "b"], "named group, any case"),
    (r"(?s)<<(.*?)>>", "<<a\nb>> <<>>", ["a\nb", ""], "several lines, and an empty group"),
    (r"(?:x(\d)|y)", "x1 y x2", ["1", "2"], "a match without the group"),
    (r"(?|a(\d)|b(\d))", "a1 b2", ["1", "2"], "one group in two places"),
    (r"()", "ab", ["", "", ""], "matches without text"),
    (r"(?=(\w\w))", "abcd", ["ab", "cd"], "matches that overlap"),
    (r"a(b)", "", [], "nothing"),
]


@pytest.mark.parametrize(
    ("pattern", "text", "expected", "reason"), CASES, ids=[c[3] for c in CASES]
)
def test_regex(pattern, text, expected, reason):
    assert texts(Regex(pattern), text) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"(?m)^- (.+)$", "- a\n- b", ["a", "b…"]),
        (r"(?m)^- (.+)$", "- a\n- b\n", ["a", "b"]),
        (r"<(\w+)>", "<a> <b>", ["a", "b…"]),
        (r"<(\w+)>", "<a> <b", ["a"]),
    ],
)
def test_a_cut_answer(pattern, text, expected):
    assert texts(Regex(pattern), text, cut=True) == expected


REFUSED = [
    ({"pattern": "("}, r"^pattern='\(': must be a regular expression \(missing \)"),
    ({"pattern": None}, r"^pattern=None: must be a regular expression"),
    ({"pattern": r"(?au)(\w)"}, r"^pattern=.*: must be a regular expression"),
    ({"pattern": "a"}, r"^pattern='a': must have one group, the candidate, and it has 0\. Write"),
    ({"pattern": "(a)(b)"}, r"must have one group, the candidate, and it has 2\. Write"),
    ({"pattern": "(a)", "seconds": 0}, r"^seconds=0: must be a number above 0 and up to 3600"),
    ({"pattern": "(a)", "seconds": 1e9}, "^seconds=1000000000.0: must be a number"),
    ({"pattern": "(a)", "seconds": float("nan")}, "^seconds=nan: must be a number"),
    ({"pattern": "(a)", "seconds": True}, "^seconds=True: must be a number"),
    ({"pattern": "(a)", "seconds": "1"}, "^seconds='1': must be a number"),
    ({"pattern": "(a)", "example": "- "}, r"^example='- ': must be one candidate .* with \{cand"),
    ({"pattern": "(a)", "example": 1}, r"^example=1: must be one candidate"),
    ({"pattern": r"(?m)^- (.+)$", "example": "* {candidate}\n"}, r"^example=.*it finds \[\]"),
    (
        {"pattern": r"(?m)^- (.+)$", "example": "- {candidate}"},
        r"both candidates of '- first- second', and it finds \['first- second'\]",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        Regex(**options)


@pytest.mark.parametrize("pattern", [r"- (\w+)\n", r"- ([A-Z].*)\n", r"- ([A-Z]+)\n", r"- (\d+)\n"])
def test_examples_of_several_kinds(pattern):
    format = Regex(pattern, example="- {candidate}\n")
    assert format.write(["a", "b"]) == "- a\n- b\n"


def test_nothing_is_written_without_an_example():
    assert Regex("(a)").write(["a"]) is None


@steady
@given(st.lists(st.text("ab- {}\\", min_size=1).map(str.strip), min_size=1))
def test_round_trip(written):
    format = Regex(r"(?m)^- (.*)$", 60, example="- {candidate}\n")
    assert texts(format, format.write(written)) == written


def test_prefixes():
    check_prefixes(Regex(r"(?m)^- (.+)\n"), "Sure:\n- Heat\n- Ran\n- a - b\nEnjoy!")


@steady
@given(st.text("ab12 \n"), st.sampled_from([r"(?m)^(.*)$", r"([ab]+)\d", r"(\d)", r"(?s)a(.*?)b"]))
def test_as_re_finds_them(text, pattern):
    assert texts(Regex(pattern, 60), text) == [
        match[1].strip() for match in re.finditer(pattern, text)
    ]


def test_a_pattern_that_takes_too_long():
    with pytest.raises(
        TimeoutError, match=r"pattern='\(a\+\)\+b' took .*format_options\.seconds=0"
    ):
        found(Regex("(a+)+b", seconds=0.05), "a" * 1000)


def test_a_hundred_thousand_matches():
    assert len(found(Regex("(a)", seconds=600), "a" * 100_000)) == 100_000
