"""Very long responses. Work is counted, not timed.

The work of regular expressions cannot be counted: over a megabyte, quadratic work would not end.
"""

import sys
from functools import partial

import pytest

from shape_grpo.candidates import CandidateRules, find_candidates, parse_candidates
from tests.candidates.plain_parsers import plain_parse
from tests.candidates.sample_tokenizers import CountingTokenizer, make_tokenizer

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


@pytest.mark.parametrize("format", ["xml", "numbered"])
@pytest.mark.parametrize("piece", REPEATED)
def test_a_megabyte_of_one_thing(piece, format):
    begin = {"xml": "<candidate>", "numbered": "1. "}[format]
    for start in ("", begin):
        text = start + piece * (MEGABYTE // len(piece))
        found = parse_candidates(text, format=format, truncated=True)
        assert [(c.text, c.closed) for c in found] == plain_parse(text, format, True, True)


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


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    ("format", "piece"),
    [
        ("xml", "<candidate>good film</candidate>"),
        ("xml", "<candidate>"),
        ("xml", "<candidate></candidate> \ufffd"),
        ("numbered", "\n1. good\n2. film"),
        ("numbered", "\n\n good\n"),
    ],
)
def test_four_times_the_response_is_four_times_the_work(name, format, piece):
    tokenizer = CountingTokenizer(make_tokenizer(name))
    rules = CandidateRules(format, 100_000, surplus="score", empty="score", truncated="score")
    ids = tokenizer.tokenizer.encode("1. " + piece, add_special_tokens=False)

    def work(repeats):
        find_candidates(tokenizer, ids, rules, cut=True)  # learns the vocabulary
        tokenizer.decoded = 0
        call = partial(find_candidates, tokenizer, ids * repeats, rules, cut=True)
        return lines_executed(call), tokenizer.decoded

    lines, decoded = work(100)
    more_lines, more_decoded = work(400)
    assert more_lines <= 4 * lines
    assert more_decoded <= 4 * decoded


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ten_thousand_candidates(name):
    tokenizer = make_tokenizer(name)
    ids = tokenizer.encode("<candidate>good film</candidate>", add_special_tokens=False) * 10_000
    found = find_candidates(tokenizer, ids, CandidateRules(), cut=True)
    assert found.problem_counts == {"surplus": 9_936, "duplicate": 63}
    (first, end), period = found.spans[0], len(ids) // 10_000
    assert found.spans == [(first + n * period, end + n * period) for n in range(64)]
