import gc
import random
import weakref
from functools import lru_cache

import numpy as np
import pytest
import torch
from transformers.convert_slow_tokenizer import bytes_to_unicode

from shape_grpo.candidates import Candidate, decode_response, parse_candidates, spans, token_spans
from tests.candidates.sample_tokenizers import (
    KINDS,
    WORDS,
    CountingTokenizer,
    hand_made_tokenizer,
    make_tokenizer,
    random_text,
)

BYTE_LEVEL = ["byte_level_bpe", "byte_level_bpe_with_tag_tokens", "mistral_tekken"]
BYTE_FALLBACK = ["metaspace_bpe_with_byte_fallback", "unigram_with_byte_fallback"]
WHOLE_CHARACTERS = [
    "unigram_without_byte_fallback",
    "word_piece",
    "word_piece_with_cleanup",
    "word_end_bpe",
]
ROUNDS = 250  # texts for each kind of tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*text is not the sum of its tokens:UserWarning")


# --- oracles: for each character of the text, its first and its last token ---


def owners_by_bytes(pieces, text):
    """Take one character at a time; a broken one has as many bytes as could begin a character."""
    data = b"".join(pieces)
    token_of = [token for token, piece in enumerate(pieces) for _ in piece]
    characters, owners, position = "", [], 0
    while position < len(data):
        width = 1
        for length in range(1, 5):
            try:
                data[position : position + length].decode()
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data":
                    width = min(length, len(data) - position)
                continue
            width = length
            break
        characters += data[position : position + width].decode(errors="replace")
        owners.append((token_of[position], token_of[position + width - 1]))
        position += width
    assert characters == text
    return owners


def owners_by_prefixes(tokenizer, ids, text):
    """Decode every prefix; correct if no token holds a part of a character."""
    prefixes = [decode_response(tokenizer, ids[:n]) for n in range(len(ids) + 1)]
    owners = []
    for position in range(len(text)):
        first = next(n for n in range(len(ids)) if len(prefixes[n + 1]) > position)
        last = max(
            n for n in range(len(ids)) if prefixes[n][: position + 1] != text[: position + 1]
        )
        owners.append((first, last))
    return owners


def byte_level_pieces(tokenizer, ids):
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    special = {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    for token_id, token in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True):
        if token is None or token_id in special:
            yield b""
        elif all(character in byte_of for character in token):
            yield bytes(byte_of[character] for character in token)
        else:
            yield token.encode()


def byte_fallback_pieces(tokenizer, ids, text):
    special = {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces, runs, run_open = [], [], False
    for n, (token_id, token) in enumerate(
        zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)
    ):
        if token is None or token_id in special:
            pieces.append(b"")
        elif token.startswith("<0x"):
            pieces.append(bytes.fromhex(token[3:5]))
            if not run_open:
                runs.append([])
            runs[-1].append(n)
            run_open = True
        else:
            pieces.append(token.replace("▁", " ").encode())
            run_open = False
    for run in runs:
        if "\ufffd" in b"".join(pieces[n] for n in run).decode("utf-8", "replace"):
            for n in run:
                pieces[n] = "\ufffd".encode()
    first = next((n for n, piece in enumerate(pieces) if piece), None)
    if first is not None and b"".join(pieces).decode() != text:
        pieces[first] = pieces[first].removeprefix(b" ")
        if b"".join(pieces).decode() != text:  # Metaspace strips all of the first token
            pieces[first] = pieces[first].replace(b" ", b"")
    return pieces


def owners_of(name, tokenizer, ids, text):
    if name in BYTE_LEVEL:
        return owners_by_bytes(list(byte_level_pieces(tokenizer, ids)), text)
    if name in BYTE_FALLBACK:
        return owners_by_bytes(byte_fallback_pieces(tokenizer, ids, text), text)
    return owners_by_prefixes(tokenizer, ids, text)


def expected_spans(owners, candidates):
    """The documented rule in terms of sets of tokens."""
    taken, result = set(), []
    for candidate in candidates:
        tokens = {
            token
            for first, last in owners[candidate.start : candidate.end]
            for token in range(first, last + 1)
        } - taken
        taken |= tokens
        result.append((min(tokens), max(tokens) + 1) if tokens else None)
    return result


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
    low = tokenizer.convert_ids_to_tokens(list(range(400)))
    low = [n for n, token in enumerate(low) if token and len(token) in (1, len("<0x00>"))]
    return low, len(tokenizer) + 5


def garbage(tokenizer, rng):
    """Return random ids, half of them byte tokens if there are any, some of them unknown."""
    low, size = ids_for_garbage(tokenizer)
    return [
        rng.choice(low) if rng.random() < 0.5 else rng.randrange(size)
        for _ in range(rng.randrange(1, 40))
    ]


def assert_spans(name, tokenizer, ids, rng):
    text = decode_response(tokenizer, ids)
    candidates = random_candidates(rng, text)
    found = token_spans(tokenizer, ids, candidates)
    expected = expected_spans(owners_of(name, tokenizer, ids, text), candidates)
    assert without_empty(found) == expected
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


@pytest.mark.parametrize("name", [*BYTE_LEVEL, *BYTE_FALLBACK, WHOLE_CHARACTERS[0]])
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
        owners = [(tokens[0], tokens[-1]) for tokens in tokens_at]
        expected = expected_spans(owners, candidates)
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


@pytest.mark.parametrize("kind", KINDS)
def test_only_uncommon_decoders_need_prefixes(kind, monkeypatch):
    tokenizer = make_tokenizer(kind)
    calls = []
    slow = spans._spans_by_prefixes
    monkeypatch.setattr(spans, "_spans_by_prefixes", lambda *a: calls.append(1) or slow(*a))
    rng = random.Random(6)
    for _ in range(200):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        for any_ids in (ids, garbage(tokenizer, rng)):
            text = decode_response(tokenizer, any_ids)
            token_spans(tokenizer, any_ids, [Candidate(text, 0, len(text))])
    assert bool(calls) == (kind == "word_end_bpe")


@pytest.mark.parametrize("kind", ["byte_level_bpe", "unigram_without_byte_fallback", "word_piece"])
def test_prefixes_give_the_same_spans(kind, monkeypatch):
    tokenizer = make_tokenizer(kind)
    fast = spans._pieces
    monkeypatch.setattr(spans, "_pieces", lambda *a: [piece and piece + b"?" for piece in fast(*a)])
    rng = random.Random(7)
    for _ in range(100):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        assert_spans(kind, tokenizer, ids, rng)


def test_prefixes_warn_that_they_are_slow():
    tokenizer = make_tokenizer("word_end_bpe")
    ids = tokenizer.encode("good film story", add_special_tokens=False)
    with pytest.warns(UserWarning, match="text is not the sum of its tokens"):
        token_spans(tokenizer, ids, [Candidate("good", 0, 4)])


# --- the boundary rule, case by case ---

EMOJI = ["ð", "Ł", "ĺ", "Ģ"]  # the four bytes of 😀
CASES = [
    (["<", "The", "Ġfilm", ">"], "The film", (1, 3), "whole tokens"),
    (["<", ">The", "Ġfilm", "</"], "The film", (1, 3), "token shared with the tag in front"),
    (["The", "Ġfilm</", ">"], "The film", (0, 2), "token shared with the tag behind"),
    ([">The", "Ġfilm</"], "film", (1, 2), "leading space in the same token"),
    (["<", "Ġ", "film", "Ġ", ">"], "film", (2, 3), "spaces in separate tokens"),
    (["<", *EMOJI, ">"], "😀", (1, 5), "character over four tokens"),
    ([">ð", *EMOJI[1:], ">"], "😀", (0, 4), "first byte in a shared token"),
    ([*EMOJI[:3], "Ģ<", ">"], "😀", (0, 4), "last byte in a shared token"),
    (["film", "ĢĠ", "film"], "\ufffd", (1, 2), "lone continuation byte"),
    (["film", "ð", "Ł", "Ģ<"], "\ufffd", (1, 4), "all bytes of a cut character"),
    (["ð", "Ł", "film"], "film", (2, 3), "behind a cut character"),
    (["film", "Ł", "Ł"], "film", (0, 1), "in front of broken bytes"),
    (["<pad>", "film", "<pad>", "film", "<pad>"], "filmfilm", (1, 4), "special tokens inside only"),
    (["film", "</s>", "<pad>", "<pad>"], "film", (0, 1), "end of text and padding"),
    (["<s>", "<", "film", "<s>"], "film", (2, 3), "special tokens at the edge"),
    (["<", None, "film", None, "film", None], "filmfilm", (2, 5), "ids outside the vocabulary"),
    (["<", "電影", ">"], "電影", (1, 2), "added token outside the byte alphabet"),
]


@pytest.fixture(scope="module")
def hand_made():
    return hand_made_tokenizer(sorted({token for case in CASES for token in case[0] if token}))


def ids_of(tokenizer, tokens):
    return [len(tokenizer) + 7 if t is None else tokenizer.get_vocab()[t] for t in tokens]


@pytest.mark.parametrize(("tokens", "text", "span", "reason"), CASES, ids=[c[3] for c in CASES])
def test_boundaries(hand_made, tokens, text, span, reason):
    ids = ids_of(hand_made, tokens)
    start = decode_response(hand_made, ids).index(text)
    assert token_spans(hand_made, ids, [Candidate(text, start, start + len(text))]) == [span]


SEVERAL = [
    (["The", "Ġfilm"], [(0, 3), (3, 3), (4, 8)], [(0, 1), (1, 1), (1, 2)], "empty one between"),
    (["The", "Ġfilm"], [(0, 5), (5, 8)], [(0, 2), (2, 2)], "shared token belongs to the first"),
    (["The", "Ġfilm", ">"], [(0, 5), (5, 9)], [(0, 2), (2, 3)], "second keeps its unshared token"),
    (["The", "Ġfilm"], [(1, 2), (2, 3)], [(0, 1), (1, 1)], "both inside one token"),
    (["The", "Ġfilm"], [(0, 0), (0, 3)], [(0, 0), (0, 1)], "empty one at the start"),
    (["The", "Ġfilm"], [(4, 8), (8, 8)], [(1, 2), (2, 2)], "empty one at the end"),
]


@pytest.mark.parametrize(
    ("tokens", "offsets", "found", "reason"), SEVERAL, ids=[c[3] for c in SEVERAL]
)
def test_several_candidates(hand_made, tokens, offsets, found, reason):
    ids = ids_of(hand_made, tokens)
    text = decode_response(hand_made, ids)
    candidates = [Candidate(text[start:end], start, end) for start, end in offsets]
    assert token_spans(hand_made, ids, candidates) == found


def test_byte_run_that_is_not_utf8_decodes_to_one_character_per_token():
    tokenizer = make_tokenizer("metaspace_bpe_with_byte_fallback")
    # An emoji and one byte too many: byte fallback gives up the whole run.
    run = ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xFF>"]
    ids = tokenizer.convert_tokens_to_ids(["a", *run, "a"])
    text = decode_response(tokenizer, ids)
    assert text == "a" + "\ufffd" * 5 + "a"
    assert token_spans(tokenizer, ids, [Candidate("\ufffd\ufffd", 2, 4)]) == [(2, 4)]


# --- the rest of the contract ---


def test_no_candidates_no_spans(hand_made):
    assert token_spans(hand_made, ids_of(hand_made, ["film"]), []) == []


def test_arrays_and_tensors_of_ids(hand_made):
    ids = ids_of(hand_made, ["<", "film"])
    for given in (np.array(ids), torch.tensor(ids), tuple(ids)):
        assert decode_response(hand_made, given) == "<film"
        assert token_spans(hand_made, given, [Candidate("film", 1, 5)]) == [(1, 2)]


def test_candidates_of_another_text_are_refused(hand_made):
    with pytest.raises(ValueError, match=r"candidate 0 is 'The'.*reads 'fil' at 0:3"):
        token_spans(hand_made, ids_of(hand_made, ["film"]), [Candidate("The", 0, 3)])


def test_candidates_out_of_order_are_refused(hand_made):
    candidates = [Candidate("ilm", 1, 4), Candidate("fi", 0, 2)]
    with pytest.raises(ValueError, match=r"candidate 1 \(0:2\) begins before"):
        token_spans(hand_made, ids_of(hand_made, ["film"]), candidates)


def test_tokens_added_later_are_found():
    tokenizer = hand_made_tokenizer(["film"])
    ids = [*ids_of(tokenizer, ["film"]), len(tokenizer)]
    assert token_spans(tokenizer, ids, [Candidate("film", 0, 4)]) == [(0, 1)]
    tokenizer.add_tokens(["<candidate>"])
    assert decode_response(tokenizer, ids) == "film<candidate>"
    assert token_spans(tokenizer, ids, [Candidate("film<", 0, 5)]) == [(0, 2)]


def test_a_known_vocabulary_costs_one_decode(hand_made):
    counting = CountingTokenizer(hand_made)
    ids = ids_of(hand_made, ["The", "Ġfilm", *EMOJI] * 2000)
    candidates = [Candidate("The film😀", n, n + 9) for n in range(0, 18000, 9)]
    first = token_spans(counting, ids, candidates)
    assert first == [(n, n + 6) for n in range(0, 12000, 6)]
    counting.decoded = 0
    assert token_spans(counting, ids, candidates) == first
    assert counting.decoded == len(ids) + 1  # and the first token by itself


def test_nothing_keeps_a_tokenizer_alive():
    tokenizer = hand_made_tokenizer(["film"])
    token_spans(tokenizer, ids_of(tokenizer, ["film"]), [Candidate("film", 0, 4)])
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None
