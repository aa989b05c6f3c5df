"""Very long responses. Work is counted, not timed.

The work of regular expressions cannot be counted: over a megabyte, quadratic work would not end.
"""

import random
import sys
from functools import partial
from itertools import pairwise

import pytest

from shape_grpo.candidates import (
    FAMILIES,
    CandidateRules,
    Thoughts,
    find_candidates,
    find_in_text,
    parse_candidates,
)
from tests.candidates.plain_parsers import plain_answer, plain_parse
from tests.candidates.sample_tokenizers import CountingTokenizer, make_tokenizer
from tests.candidates.special_tokenizers import encode, tokenizer_with

TOKENIZERS = [
    "byte_level_bpe",
    "byte_level_bpe_with_tag_tokens",
    "metaspace_bpe_with_byte_fallback",
    "unigram_with_byte_fallback",
    "unigram_without_byte_fallback",
]

MEGABYTE = 1_000_000
REPEATED = [
    *["<candidate>", "</candidate>", "<candidate></candidate>", "<candidate>a</candidate>"],
    *["<", "</candidate", "<candidate", "<think>", "</think>", "<think><candidate>", "\0", "a"],
    *["1. ", "\n1. ", "1.\n", "\n", " \n", "\n\n ", "\r\n", " ", "\t", "9", "\n99. ", "\n    1. a"],
]


BEGINS = {
    "xml": "<candidate>",
    "numbered": "1. ",
    "lines": "a\n",
    "marked": "- ",
    "fenced": "```\n",
    "json": '["',
    "regex": "- ",
}
OPTIONS = {
    "marked": {"format": "lines", "format_options": {"marker": "- "}},
    "regex": {"format": "regex", "format_options": {"pattern": "(?m)^- (.+)$", "seconds": 60}},
}


@pytest.mark.parametrize("format", ["xml", "numbered"])
@pytest.mark.parametrize("piece", REPEATED)
def test_much_of_one_thing(piece, format):
    """Of a quarter of a megabyte quadratic work would not end either."""
    for start in ("", BEGINS[format]):
        text = start + piece * (MEGABYTE // 4 // len(piece))
        found = parse_candidates(text, format=format, truncated=True)
        # The plain reader of thoughts is slow.
        thoughts = "auto" if "think" in piece else "none"
        plain = plain_parse(text, format, cut=True, thoughts=thoughts)
        assert [(c.text, c.closed) for c in found] == plain


OTHERS = [
    *["```\n", "```", "`", "~~~a\n", "\n- ```", "- ", "\n- ", "- \n", "a\n", "1. ```\n"],
    *["[", "]", "[[", "{", '"', '\\"', "\\", '["a"', '{"a": ', "[1", ", ", '["', "\\u", " "],
]


@pytest.mark.parametrize("format", ["lines", "marked", "fenced", "json", "regex", "numbered"])
@pytest.mark.parametrize("piece", OTHERS)
def test_much_of_one_thing_in_other_formats(piece, format):
    """Where a parser of the tests says nothing, the text must be read to its end."""
    options = OPTIONS.get(format, {"format": format})
    for start in ("", BEGINS[format]):
        text = start + piece * (MEGABYTE // 4 // len(piece))
        found = parse_candidates(text, **options, thoughts="none", truncated=True)
        assert all(a.end <= b.start for a, b in pairwise(found))
        if format in ("lines", "marked", "regex"):
            plain = plain_parse(text, format, cut=True, thoughts="none")
            assert [(c.text, c.closed) for c in found] == plain


# --- thoughts ---

MARKS = [string for family in FAMILIES for string in (family.open, family.close)]
HARMONY = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|channel|>final",
    "<|constrain|>",
    "<|end|>",
]


@pytest.mark.parametrize("mark", [*dict.fromkeys(MARKS), *HARMONY, "<|start|>assistant", "<|", "["])
def test_a_megabyte_of_one_mark(mark):
    few, many = (mark * (length // len(mark)) for length in (5_000, MEGABYTE))
    for prompt in ("", "<think>", "<|start|>assistant<|channel|>analysis"):
        assert Thoughts().answer(few, prompt) == plain_answer(few, prompt)
        begin, end = Thoughts().answer(many, prompt)
        assert 0 <= begin <= end <= len(many)
    assert Thoughts().turn_start(few) == turn_start(few)
    assert Thoughts().turn_start(many) == turn_start(many)


def turn_start(prompt):
    _, start, turn = prompt.rpartition("<|start|>")
    if start and turn.startswith("assistant"):
        return start + turn
    return max((each.open for each in FAMILIES if prompt.endswith(each.open)), key=len, default="")


def test_marks_of_all_families_thousands_of_times():
    rng = random.Random(0)
    for _ in range(2):
        text = "".join(rng.choices([*MARKS, *HARMONY[2:], " a "], k=5_000))
        assert Thoughts().answer(text) == plain_answer(text)
        text = "<|channel|>" + "".join(rng.choices([*HARMONY, "final", " a "], k=5_000))
        assert Thoughts().answer(text) == plain_answer(text)
        pair = ("<think>", "</thinking>")
        assert Thoughts.from_setting(pair).answer(text) == plain_answer(text, "", pair)


def test_a_million_characters_of_white_space_before_words():
    for words in ("Here is my thought process: a", "<|channel|>final<|message|>"):
        text = " \n" * (MEGABYTE // 2) + words
        assert Thoughts().answer(text)[0] >= MEGABYTE or Thoughts().answer(text)[1] == MEGABYTE


@pytest.mark.parametrize(
    "piece", ["<think>", "<|im_start|>", "<think> ", "<|im_start|><think>", "a"]
)
@pytest.mark.parametrize("special", [(), ("<|im_start|>",), ("<|im_start|>", "<think>")])
def test_a_long_prompt_is_read_at_its_end_alone(piece, special):
    tokenizer = CountingTokenizer(tokenizer_with(*special))
    prompt_ids = encode(tokenizer.tokenizer, piece)
    thoughts = Thoughts()
    thoughts.turn_start_of_ids(tokenizer, prompt_ids)  # learns the vocabulary

    def work(repeats):
        tokenizer.decoded = 0
        prompt = prompt_ids * repeats
        lines = lines_executed(partial(thoughts.turn_start_of_ids, tokenizer, prompt))
        return lines, tokenizer.decoded

    # A few lines of a call are not the same each time: twice the work would be 2 times, not 1.1.
    (lines, decoded), (more_lines, more_decoded) = work(8000), work(16_000)
    assert more_lines <= 1.1 * lines
    assert more_decoded == decoded


# --- long lists, and responses of many tokens ---


def test_a_list_of_a_hundred_thousand_items():
    text = "".join(f"{n}. {n}\n" for n in range(1, 100_001))
    found = parse_candidates(text, format="numbered")
    assert [c.text for c in found] == [str(n) for n in range(1, 100_001)]


def lines_executed(function):
    lines = 0

    def count(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        function()
    finally:
        sys.settrace(before)
    return lines


EVERYTHING = dict.fromkeys(("surplus", "empty", "truncated"), "score")
WORK = [
    ("xml", "<candidate>good film</candidate>"),
    ("xml", "<candidate>"),
    ("xml", "<candidate></candidate> \ufffd"),
    ("xml", "<think></think><candidate>good film</candidate>"),
    ("xml", "<think>"),
    ("numbered", "\n1. good\n2. film"),
    ("numbered", "\n\n good\n"),
    ("lines", "good\n"),
    ("marked", "\n- good\n"),
    ("fenced", "\n```\ngood\n```\n"),
    ("json", '"good", [["film"], '),
    ("regex", "\n- good\n"),
]


def assert_linear(tokenizer, rules, ids):
    def work(repeats):
        find_candidates(tokenizer, ids, rules, cut=True)  # learns the vocabulary
        tokenizer.decoded = 0
        call = partial(find_candidates, tokenizer, ids * repeats, rules, cut=True)
        return lines_executed(call), tokenizer.decoded

    lines, decoded = work(100)
    more_lines, more_decoded = work(400)
    assert more_lines <= 4 * lines
    assert more_decoded <= 4 * decoded


def rules_of(format):
    options = OPTIONS.get(format, {"format": format})
    return CandidateRules(**options, max_candidates=100_000, **EVERYTHING)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(("format", "piece"), WORK)
def test_four_times_the_response_is_four_times_the_work(name, format, piece):
    tokenizer = CountingTokenizer(make_tokenizer(name))
    ids = tokenizer.tokenizer.encode(BEGINS[format] + piece, add_special_tokens=False)
    assert_linear(tokenizer, rules_of(format), ids)


SPECIAL = ("<candidate>", "</candidate>", "<think>", "</think>", "<|x|>")


@pytest.mark.parametrize(
    ("format", "piece"),
    [
        *WORK,
        ("xml", "<candidate><|x|><|x|></candidate>"),
        ("xml", "<candidate>a<|x|> <|x|>b"),
        ("lines", "<|x|>\n<|x|> a <|x|>\n"),
        ("lines", "<|x|>"),
        ("numbered", "\n1. <|x|> <|x|>\n2. "),
        ("fenced", "```\n<|x|>\n```\n<|x|>"),
        ("json", '["<|x|>", "a<|x|>"] <|x|>'),
    ],
)
def test_the_same_with_special_tokens(format, piece):
    tokenizer = CountingTokenizer(tokenizer_with(*SPECIAL))
    ids = encode(tokenizer.tokenizer, BEGINS[format] + piece)
    assert_linear(tokenizer, rules_of(format), ids)


def test_a_hundred_thousand_candidates_in_tags_that_are_special_tokens():
    """What is copied once per candidate would be counted nowhere else."""
    tokenizer = tokenizer_with(*SPECIAL)
    ids = encode(tokenizer, "<candidate>a</candidate>") * 100_000
    found = find_candidates(tokenizer, ids, CandidateRules(max_candidates=100_000), cut=True)
    assert len(found.kept) == 100_000
    assert found.spans == [(3 * n + 1, 3 * n + 2) for n in range(100_000)]


@pytest.mark.parametrize("turns", ["last", "all"])
def test_many_turns(turns):
    """Only the last tokens before a turn are read for a thought that they open."""
    tokenizer = CountingTokenizer(tokenizer_with("<|im_start|>"))
    turn = encode(tokenizer.tokenizer, "<candidate>a</candidate>")
    tool = encode(tokenizer.tokenizer, "<|im_start|>tool\nb\n<|im_start|>assistant\n")
    rules = CandidateRules(turns=turns, max_candidates=1000, duplicate="score")

    def work(count):
        places = [n * len(turn + tool) for n in range(count)]
        runs = [(place, place + len(turn)) for place in places]
        tokenizer.decoded = 0
        call = partial(
            find_candidates, tokenizer, (turn + tool) * count, rules, cut=False, turns=runs
        )
        assert call().texts == ["a"] * (count if turns == "all" else 1)
        return lines_executed(call), tokenizer.decoded

    work(100)  # learns the vocabulary
    # The first turns have less in front of them, so that growth is compared. A few lines of
    # a call are not the same each time: quadratic growth would be 3 times, not 2.1.
    (lines, decoded), (more_lines, more_decoded), (most_lines, most_decoded) = map(
        work, (100, 200, 400)
    )
    assert most_lines - more_lines <= 2.1 * (more_lines - lines)
    assert most_decoded - more_decoded <= 2.1 * (more_decoded - decoded)


def test_many_turns_of_a_text():
    text = "<candidate>a</candidate>"
    runs = [(n * len(text), (n + 1) * len(text)) for n in range(1000)]
    found = find_in_text(text * 1000, CandidateRules(turns="all"), cut=False, turns=runs)
    assert found.problem_counts == {"surplus": 936, "duplicate": 63}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ten_thousand_candidates(name):
    tokenizer = make_tokenizer(name)
    ids = tokenizer.encode("<candidate>good film</candidate>", add_special_tokens=False) * 10_000
    found = find_candidates(tokenizer, ids, CandidateRules(), cut=True)
    assert found.problem_counts == {"surplus": 9_936, "duplicate": 63}
    (first, end), period = found.spans[0], len(ids) // 10_000
    assert found.spans == [(first + n * period, end + n * period) for n in range(64)]
