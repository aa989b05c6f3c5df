"""What holds for every format."""

import copy
import pickle
import random
import re

import pytest

from shape_grpo.candidates import CandidateRules, find_candidates
from shape_grpo.candidates.formats import (
    FORMATS,
    Fenced,
    Function,
    Json,
    Lines,
    Numbered,
    Regex,
    Whole,
    Xml,
    make_format,
)
from tests.candidates.special_tokenizers import encode, tokenizer_with

TAGS = ["<a>", "</a>", "<a1 b>", "x"]
QUOTED = ["[", "{", "}", '"a"', '"a": ', ","]
# With what makes candidates likely.
FORMATS_WITH_OPTIONS = [
    (Xml(), ["<candidate>", "</candidate>"]),
    (Xml("a", attributes=True, numbered=True, unescape=True), TAGS),
    (Numbered(), ["\n1. ", "\n2. "]),
    (Json(), QUOTED),
    (Json("a"), [*QUOTED, '{"a": "b"}']),
    (Fenced(), ["\n```", "\n", "\n"]),
    (Fenced("a"), ["\n```a", "\n```\n", "\n"]),
    (Lines(), ["\n"]),
    (Lines("- "), ["\n- "]),
    (Regex(r"(?m)^- (.*)$"), ["\n- "]),
    (Regex(r"(?=(a|1.|- ))"), ["a", "1"]),
    (Regex(r"[\[`](?:(a)|b)?"), ["`a"]),
]
FRAGMENTS = [
    *("<candidate>", "</candidate>", "</cand", "<a", "</a", ">", "<", "1", "&amp;", "&#"),
    *("1. ", "2. ", "- ", "\n", "\n\n", "   ", " ", "\t", "\r\n", "a", "b", "é", "😀", "\u2028"),
    *("```", "``", "`", "~~~", "```a", "[", "]", "{", "}", '"', '"a"', '"a": ', ":", ",", "\\"),
    *("\\u", "\\ud83d", "\\ude00", "\ud800", "\ufeff", "null", "12", "(", "\x00", '["a", "b"]'),
]


@pytest.mark.parametrize(("format", "likely"), FORMATS_WITH_OPTIONS, ids=repr)
def test_candidates_of_any_text_are_in_order(format, likely):
    rng = random.Random(0)
    counts = set()
    for _ in range(3000):
        few = likely + rng.sample(FRAGMENTS, 6)
        text = "".join(rng.choices(few, k=rng.randrange(40)))
        found = list(format.find(text, cut=rng.random() < 0.5))
        position = 0
        for start, end, _ in found:
            assert position <= start <= end <= len(text)
            assert isinstance(format.read(text[start:end]), str)
            position = end
        assert all(closed for _, _, closed in found[:-1])
        counts.add(len(found))
    assert counts >= {0, 1, 2}


@pytest.mark.parametrize("format", [format for format, _ in FORMATS_WITH_OPTIONS], ids=repr)
def test_copies(format):
    text = '- a\n["a"]'
    expected = list(format.find(text, cut=True))
    for twin in (copy.deepcopy(format), pickle.loads(pickle.dumps(format))):
        assert twin == format
        assert list(twin.find(text, cut=True)) == expected


def test_every_format_is_here():
    here = {type(format) for format, _ in FORMATS_WITH_OPTIONS}
    assert here | {Function, Whole} == set(FORMATS.values())


def test_formats_are_made_by_name():
    assert make_format("fenced", {"language": ["python", "py"]}) == Fenced(["python", "py"])
    with pytest.raises(ValueError, match=r"needs the option 'pattern'"):
        make_format("regex")
    with pytest.raises(ValueError, match=r"unknown candidate format 'line'.*Did you mean lines"):
        make_format("line")


def find_bullets(answer):
    for line in re.finditer(r"(?m)^- (\w+)$", answer):
        yield line.span(1)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("regex", {"pattern": r"(?m)^- (\w+)$"}),
        ("regex", {"pattern": r"(?m)^- (\w+)$", "example": "- {candidate}\n"}),
        ("function", {"path": __file__, "name": "find_bullets"}),
    ],
)
def test_the_token_that_ends_a_turn_is_no_text_of_the_last_line(format, options):
    tokenizer = tokenizer_with("<start_of_turn>", "<end_of_turn>")
    ids = encode(tokenizer, "- Alien\n- Brazil<end_of_turn>")
    found = find_candidates(tokenizer, ids, CandidateRules(format, options), cut=False)
    assert found.texts == ["Alien", "Brazil"]


def test_tags_of_a_pattern_may_be_special_tokens():
    tokenizer = tokenizer_with("<|film|>", "<|/film|>", "<end_of_turn>")
    ids = encode(tokenizer, "<|film|>Alien<|/film|><|film|>Brazil<|/film|><end_of_turn>")
    options = {"pattern": r"<\|film\|>(.*?)<\|/film\|>"}
    found = find_candidates(tokenizer, ids, CandidateRules("regex", options), cut=False)
    assert found.texts == ["Alien", "Brazil"]
