"""Garbage as models write it: 200,000 responses, and the cases worth keeping."""

import json
import random
from itertools import chain
from pathlib import Path

import pytest

from shape_grpo.candidates import (
    CandidateRules,
    decode_response,
    find_candidates,
    parse_candidates,
    token_spans,
)
from tests.candidates.plain_parsers import plain_parse
from tests.candidates.sample_tokenizers import (
    BYTE_TOKENS,
    KINDS,
    SPECIAL,
    CodePoints,
    make_tokenizer,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*text is not the sum of its tokens:UserWarning")

RESPONSES = {
    "byte_level_bpe": 50_000,
    "byte_level_bpe_with_tag_tokens": 42_000,
    "metaspace_bpe_with_byte_fallback": 40_000,
    "unigram_with_byte_fallback": 40_000,
    "unigram_without_byte_fallback": 10_000,
    "word_piece": 6_000,
    "word_piece_with_cleanup": 3_000,
    "word_end_bpe": 1_000,
    "code_points": 8_000,
}
"""How many of each tokenizer; few where text is not the sum of its tokens, which is slow."""

FORMATS = {
    "xml": [
        *["<candidate>", "</candidate>"] * 4,
        *["<candidate>good film</candidate>", "<candidate>\n", " </candidate>\n"],
        *["<cand", "idate>", "</", "</candidate", "<", ">", "<candidate/>", "<Candidate>"],
        *["<candidate >", '<candidate id="1">', "</ candidate>", "<candidates>", "&lt;candidate>"],
        *["<|candidate|>", "<<candidate>>", "<candidate><candidate>", "</candidate></candidate>"],
        *["story</candidate><candidate>film", "</candidate><candidate>", "good</candidate>"],
    ],
    "numbered": [
        *["\n1. ", "\n2. ", "\n3. ", "\n"] * 4,
        *["1. ", "1)", "2) ", "\n4.", "\n01. ", "\n0. ", "\n1.5", "\n1.\n", "\n2.\t", "\n2.\n\n"],
        *["\n 1. ", "\n  2. ", "\n   3. ", "\n    1. ", "\n\n", "\n \n", "\n\n  ", "\r\n", "\r"],
        *["\n1) ", "\n2) ", "\n\u0661. ", "\n- ", "\n**1.** ", "\n1234567890. ", "\n12. "],
        *["\n1.\u00a0", "\n 2.\u3000", "story\n2. film", "story\n3. film"],
        *["\n-1. ", "\n1 . ", "\n#1. ", "\n1: ", "\n(1) ", "\n1.2. ", "\x0b1. ", "\u20281. "],
    ],
}
SHARED = ["story</candidate><candidate>film", "story\n2. film", "story\n3. film"]
"""Tokens of one of the tokenizers, each with text of two candidates."""
ANYWHERE = [
    *["a", "good", " film", "the story", " ", "\n", "\t", "  ", ".", "电影", "naïve", "😀"],
    *["👩\u200d👩\u200d👧", "e\u0301", "\0", "\x1c", "\x85", "\u3000"],
    *["\ufeff", "\ufffd", "İ", "ﬁ"],
    *["<think>", "</think>", "<think></think>", "</think>\n", "</thi", "<0x0A>", "##", "▁", "</w>"],
    *["<|im_end|>", "</s>", "<pad>", "{}", "\\", '"', "'s", " ,", "\U0010ffff", "\u202e"],
]


class Responses:
    """Ids of random fragments and of tokens that no text encodes to."""

    def __init__(self, name, tokenizer, rng):
        self.rng = rng
        encoded = {
            fragment: tokenizer.encode(fragment, add_special_tokens=False)
            for fragment in chain(*FORMATS.values(), ANYWHERE)
        }
        anywhere = [encoded[fragment] for fragment in ANYWHERE]
        beyond = [[len(tokenizer)], [len(tokenizer) + 1000]]
        if name == "code_points":
            odd = [[rng.randrange(0xD800, 0xE000)] for _ in range(20)]
        else:
            tokens = tokenizer.get_vocab()
            known = [[tokens[token]] for token in (*BYTE_TOKENS, *SPECIAL) if token in tokens]
            odd = known[-4:] * 3 + rng.choices(known, k=20) + [[n] for n in range(0, 400, 20)]
        self.fragments = {
            format: [encoded[fragment] for fragment in own] * 2 + anywhere + odd + beyond
            for format, own in FORMATS.items()
        }
        self.around = {
            "xml": [(encoded["<candidate>"], encoded["</candidate>"])] * 24,
            "numbered": [
                (tokenizer.encode(f"\n{n}. ", add_special_tokens=False), []) for n in range(1, 25)
            ],
        }

    def draw(self, format):
        parts = self.rng.choices(self.fragments[format], k=self.rng.randrange(1, 25))
        form = self.rng.random()
        if form < 0.3:
            wrapped = zip(self.around[format], parts, strict=False)
            parts = [opening + part + closing for (opening, closing), part in wrapped]
        elif form < 0.4:
            parts *= self.rng.randrange(2, 6)
        return list(chain.from_iterable(parts))


def assert_covered(tokenizer, ids, candidate, start, end, free):
    """All of a candidate is in its tokens, and no token but the outer two has anything else.

    Its first token may be the last of the candidate before it.
    """
    if "\ufffd" in candidate.text:
        return  # half a character decodes differently alone; test_spans.py follows its bytes
    is_next = free > 0 and not decode_response(tokenizer, ids[free:start])
    first = free - 1 if is_next else start
    assert candidate.text in decode_response(tokenizer, ids[first:end])
    inner = decode_response(tokenizer, ids[start + 1 : end - 1])
    assert inner.removeprefix("##").strip("\ufffd ") in candidate.text


@pytest.mark.parametrize("name", RESPONSES)
def test_garbage_is_parsed_and_located(name):
    rng = random.Random(f"{name} 0")
    tokenizer = CodePoints() if name == "code_points" else KINDS[name]()
    if name == "byte_level_bpe_with_tag_tokens":
        tokenizer.add_tokens(SHARED)
    responses = Responses(name, tokenizer, rng)
    seen = {"whole": 0, "cut": 0, "empty": 0, "several": 0}
    for _ in range(RESPONSES[name]):
        format = rng.choice(["xml", "numbered"])
        ids = responses.draw(format)
        cut, thoughts = rng.random() < 0.3, rng.random() < 0.5
        everything = CandidateRules(format, None, not thoughts, *["score"] * 4)
        found = find_candidates(tokenizer, ids, everything, cut=cut)
        text = decode_response(tokenizer, ids)
        expected = plain_parse(text, format, not thoughts, cut)
        assert [(c.text, c.closed) for c in found.candidates] == expected, (text, format)
        assert found.texts == [c.text for c in found.candidates]
        free = 0
        for candidate, (start, end) in zip(found.candidates, found.spans, strict=True):
            assert free <= start <= end <= len(ids)
            assert text[candidate.start : candidate.end] == candidate.text
            if candidate.text:
                assert_covered(tokenizer, ids, candidate, start, end, free)
                if start < end:
                    first = tokenizer.convert_ids_to_tokens(ids[start])
                    assert first not in (None, *SPECIAL)
            else:
                assert start == end
            free = end
            seen["whole" if candidate.closed else "cut"] += 1
            seen["empty"] += not candidate.text
        seen["several"] += len(expected) > 1
    assert min(seen.values()) > RESPONSES[name] / 100, seen


# --- cases that were found, or that break a parser written in haste ---


def corpus(name):
    cases = json.loads(Path(__file__).with_name("corpus").joinpath(f"{name}.json").read_text())
    return [pytest.param(case, id=case["why"]) for case in cases]


@pytest.mark.parametrize("case", corpus("texts"))
def test_text_of_the_corpus(case):
    """As of a response that its length limit cut."""
    found = parse_candidates(case["text"], format=case["format"], truncated=True)
    assert [[c.text, c.closed] for c in found] == case["candidates"]
    plain = plain_parse(case["text"], case["format"], True, True)
    assert list(map(list, plain)) == case["candidates"]
    ids = CodePoints().encode(case["text"])
    assert token_spans(CodePoints(), ids, found) == [(c.start, c.end) for c in found]


@pytest.mark.parametrize("case", corpus("tokens"))
def test_tokens_of_the_corpus(case):
    """A token of the name null is an id beyond the tokenizer."""
    tokenizer = make_tokenizer(case["tokenizer"])
    known = tokenizer.get_vocab() | {None: len(tokenizer) + 7}
    ids = [known[token] for token in case["tokens"]]
    found = find_candidates(tokenizer, ids, CandidateRules(empty="score"), cut=False)
    assert found.texts == case["candidates"]
    assert found.spans == list(map(tuple, case["spans"]))
