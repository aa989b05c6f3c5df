"""Spans of random texts and random ids, against oracles, for every kind of tokenizer."""

import random
from functools import lru_cache

import pytest

from shape_grpo.candidates import Candidate, decode_response, parse_candidates, spans, token_spans
from shape_grpo.candidates.spans import DecodedTokens
from tests.candidates.sample_tokenizers import KINDS as SAMPLES
from tests.candidates.sample_tokenizers import WORDS, random_text
from tests.candidates.shipped_tokenizers import SHIPPED_KINDS
from tests.candidates.span_oracles import (
    BY_PREFIXES,
    BYTE_FALLBACK,
    BYTE_LEVEL,
    WHOLE_CHARACTERS,
    characters_of,
    control_ids,
    expected_spans,
    text_of,
)

KINDS = SAMPLES | SHIPPED_KINDS
ROUNDS = 250  # texts for each kind of tokenizer


@lru_cache
def make_tokenizer(name):
    return KINDS[name]()


def without_empty(spans):
    return [(start, end) if start < end else None for start, end in spans]


# --- texts and ids ---


def random_candidates(rng, text):
    cuts = sorted(rng.choices(range(len(text) + 1), k=2 * rng.randrange(1, 6)))
    pairs = zip(cuts[::2], cuts[1::2], strict=True)
    return [Candidate(text[start:end], start, end) for start, end in pairs]


def resplit(tokenizer, vocabulary, added, ids, rng):
    """Return ids of other tokens with the same text, as a policy may sample them."""
    result, chunk = [], ""
    for token_id, token in zip(
        [*ids, None], [*tokenizer.convert_ids_to_tokens(ids), None], strict=True
    ):
        whole = token is None or token in added or token.startswith("<0x")
        if not whole:
            chunk += token
            continue
        while chunk:
            ends = [end for end in range(1, 12) if chunk[:end] in vocabulary]
            end = rng.choice(ends) if ends else 1
            data = chunk[:end].replace("▁", " ").encode()
            pieces = [chunk[:end]] if ends else [f"<0x{byte:02X}>" for byte in data]
            result += [vocabulary[piece] for piece in pieces]
            chunk = chunk[end:]
        if token is not None:
            result.append(token_id)
    return result


@lru_cache
def ids_for_garbage(tokenizer):
    """Return byte tokens, tokens that are written as special, and the number of ids."""
    low = [tokenizer.convert_ids_to_tokens(n) for n in range(min(1400, len(tokenizer)))]
    low = [n for n, token in enumerate(low) if len(token) == 1 or str(token).startswith("<0x")]
    try:
        tokenizer.decode([len(tokenizer) + 5])
    except (IndexError, KeyError):
        return low, sorted(control_ids(tokenizer)), len(tokenizer)
    return low, sorted(control_ids(tokenizer)), len(tokenizer) + 5


def garbage(tokenizer, rng):
    """Return random ids: byte tokens, special tokens and unknown ones if there are any."""
    low, control, size = ids_for_garbage(tokenizer)
    return [
        rng.choice(rng.choice([low, low, low, control or low, range(size), range(size)]))
        for _ in range(rng.randrange(1, 40))
    ]


def assert_spans(name, tokenizer, ids, rng):
    text = decode_response(tokenizer, ids)
    characters = characters_of(name, tokenizer, ids)
    assert text == text_of(characters)
    candidates = random_candidates(rng, text)
    found = token_spans(tokenizer, ids, candidates)
    assert without_empty(found) == expected_spans(characters, candidates)
    position = 0
    for start, end in found:
        assert position <= start <= end <= len(ids)
        position = end


@pytest.fixture(params=KINDS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name):
    return make_tokenizer(name)


# --- against the oracles ---


def test_random_texts(name, tokenizer):
    rng = random.Random(1)
    for _ in range(ROUNDS):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        assert_spans(name, tokenizer, ids, rng)


@pytest.mark.parametrize("name", [*BYTE_LEVEL, *BYTE_FALLBACK, BY_PREFIXES[0]])
def test_random_texts_in_tokens_the_tokenizer_would_not_choose(name):
    tokenizer = make_tokenizer(name)
    rng = random.Random(2)
    vocabulary, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()
    others = 0
    for _ in range(ROUNDS):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        other = resplit(tokenizer, vocabulary, added, ids, rng)
        others += other != ids
        if name in BYTE_LEVEL:
            assert decode_response(tokenizer, other) == decode_response(tokenizer, ids)
        assert_spans(name, tokenizer, other, rng)
    assert others > ROUNDS / 2


def test_random_ids(name, tokenizer):
    rng = random.Random(3)
    broken = 0
    for _ in range(ROUNDS):
        ids = garbage(tokenizer, rng)
        broken += "\ufffd" in decode_response(tokenizer, ids)
        assert_spans(name, tokenizer, ids, rng)
    assert name in WHOLE_CHARACTERS or broken > ROUNDS / 2


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_offsets_of_the_tokenizer_itself(name):
    """Decoding restores the text here, so the library's own offset mapping is another oracle."""
    tokenizer = make_tokenizer(name)
    rng = random.Random(4)
    checked = 0
    for _ in range(ROUNDS):
        written = random_text(rng, 12)
        encoded = tokenizer(written, add_special_tokens=False, return_offsets_mapping=True)
        text = decode_response(tokenizer, encoded.input_ids)
        if text != written:
            assert "é" in written  # as an added token it decodes to another byte
            continue
        checked += 1
        candidates = random_candidates(rng, text)
        tokens_at = [[] for _ in text]
        for token, (start, end) in enumerate(encoded.offset_mapping):
            for position in range(start, end):
                tokens_at[position].append(token)
        characters = [
            (character, t[0], t[-1]) for character, t in zip(text, tokens_at, strict=True)
        ]
        expected = expected_spans(characters, candidates)
        found = token_spans(tokenizer, encoded.input_ids, candidates)
        assert without_empty(found) == expected
    assert checked > ROUNDS / 2


def test_decoding_a_span_gives_the_candidate(name, tokenizer):
    """Except for one token on each side that it may share with the text."""
    rng = random.Random(5)
    checked = 0
    for _ in range(ROUNDS):
        titles = [" ".join(rng.choices(WORDS, k=rng.randrange(1, 5))) for _ in range(4)]
        written = "".join(
            f"{n}: <candidate>{title}</candidate>\n" for n, title in enumerate(titles)
        )
        ids = tokenizer.encode(written, add_special_tokens=False)
        text = decode_response(tokenizer, ids)
        candidates = parse_candidates(text) or [
            Candidate(word, text.index(word), text.index(word) + len(word))
            for word in text.split()[:1]
        ]
        found = token_spans(tokenizer, ids, candidates)
        for candidate, (start, end) in zip(candidates, found, strict=True):
            assert candidate.text in decode_response(tokenizer, ids[start:end])
            inner = decode_response(tokenizer, ids[start + 1 : end - 1])
            # A character that is split over tokens leaves replacements at the cut ends.
            assert inner.strip("\ufffd ") in candidate.text
            checked += bool(inner)
    assert checked > ROUNDS / 4


def test_no_common_decoder_needs_prefixes(name, tokenizer, monkeypatch):
    monkeypatch.setattr(DecodedTokens, "_spans_by_prefixes", None)
    rng = random.Random(6)
    for _ in range(200):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        for any_ids in (ids, garbage(tokenizer, rng)):
            text = decode_response(tokenizer, any_ids)
            token_spans(tokenizer, any_ids, [Candidate(text, 0, len(text))])


@pytest.mark.parametrize("name", ["byte_level_bpe", *BY_PREFIXES])
@pytest.mark.filterwarnings("ignore:.*text is not the sum of its tokens:UserWarning")
def test_prefixes_give_the_same_spans(name, monkeypatch):
    tokenizer = make_tokenizer(name)
    fast = spans.token_pieces
    monkeypatch.setattr(spans, "token_pieces", lambda *a: (fast(*a)[0], None))
    rng = random.Random(7)
    for _ in range(100):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        assert_spans(name, tokenizer, ids, rng)
