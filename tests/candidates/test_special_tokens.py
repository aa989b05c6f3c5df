"""Special tokens in a response's text: their places, and the spans of candidates around them."""

import random

import pytest

from shape_grpo.candidates import Candidate, decode_response, token_spans
from tests.candidates.sample_tokenizers import CountingTokenizer, random_text
from tests.candidates.shipped_tokenizers import MISTRAL_SENTENCEPIECE
from tests.candidates.span_oracles import control_ids
from tests.candidates.test_spans import assert_spans, make_tokenizer

WITH_CONTROL_TOKENS = [
    "byte_level_with_control_tokens",
    "byte_fallback_without_strip",
    "llama_v1",
    "llama_v3",
    "mistral_common_tekken",
    *MISTRAL_SENTENCEPIECE[1:],  # v1 has none but those that begin and end a sequence
    "tiktoken_bytes",
    "tiktoken_names",
]


@pytest.fixture(params=WITH_CONTROL_TOKENS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name):
    return make_tokenizer(name)


def test_anywhere_in_random_texts(name, tokenizer):
    """Most often within a character, as these texts have many that are split over tokens."""
    rng = random.Random(8)
    control = sorted(control_ids(tokenizer))
    for _ in range(150):
        ids = tokenizer.encode(random_text(rng, 12), add_special_tokens=False)
        for _ in range(rng.randrange(1, 6)):
            place = rng.choice([0, len(ids), rng.randrange(len(ids) + 1)])
            ids[place:place] = rng.choices(control, k=rng.randrange(1, 3))
        assert_spans(name, tokenizer, ids, rng)


def test_at_both_ends_and_in_a_row(name, tokenizer):
    control = sorted(control_ids(tokenizer))[:3]
    first, second, third = map(tokenizer.convert_ids_to_tokens, control)
    film = tokenizer.encode("film", add_special_tokens=False)
    ids = [*control, *film, *control[:2], *film, control[2]]
    text = decode_response(tokenizer, ids)
    space = " " if name == "byte_fallback_without_strip" else ""
    # A word of SentencePiece begins with a space, but at the front of a text.
    inner = space or " " * (len(text) - len(first + second + third) * 2 - len("film") * 2)
    assert text == f"{first}{second}{third}{space}film{first}{second}{inner}film{third}"
    at = text.index("film")
    behind = text.index("film", at + 1)
    candidates = [
        Candidate(first, 0, len(first)),
        Candidate("film", at, at + 4),
        Candidate("film", behind, behind + 4),
    ]
    found = token_spans(tokenizer, ids, candidates)
    assert found[0][0] == found[0][1]
    tokens = [(3, 3 + len(film)), (5 + len(film), 5 + 2 * len(film))]
    if film[0] in tokenizer.encode(" ", add_special_tokens=False):
        tokens = [(start + 1, end) for start, end in tokens]  # a space that is a token by itself
    assert found[1:] == tokens
    # Of one candidate, all of it.
    whole = Candidate("filmfilm", at, behind + 4)
    assert token_spans(tokenizer, ids, [whole]) == [(tokens[0][0], tokens[1][1])]


EMOJI = "😀".encode()
BYTE_NAMES = [f"<0x{byte:02X}>" for byte in EMOJI]
SPLIT = [
    # Decoders that leave special tokens out first join the bytes on both sides.
    ("byte_level_with_control_tokens", ["ð", "Ł", "ĺ", "Ģ"], "{}😀😀", (0, 5)),
    ("llama_v3", BYTE_NAMES, "{}😀😀", (0, 5)),
    # SentencePiece replaces each byte, Tekken each part of a character.
    ("mistral_sentencepiece_v3", BYTE_NAMES, "\ufffd\ufffd{}\ufffd\ufffd😀", (3, 5)),
    ("mistral_common_tekken", None, "\ufffd{}\ufffd\ufffd😀", (3, 5)),
]


@pytest.mark.parametrize(("name", "names", "expected", "span"), SPLIT, ids=[c[0] for c in SPLIT])
def test_within_a_character(name, names, expected, span):
    tokenizer = make_tokenizer(name)
    control = min(control_ids(tokenizer))
    behind_special = [byte + 1000 for byte in EMOJI]
    emoji = tokenizer.convert_tokens_to_ids(names) if names else behind_special
    ids = [*emoji[:2], control, *emoji[2:], *emoji]
    written = tokenizer.convert_ids_to_tokens(control)
    text = decode_response(tokenizer, ids)
    assert text == expected.format(written)
    start, last = text.index(written) + len(written), len(text) - 1
    candidates = [Candidate("", start, last), Candidate("", last, last + 1)]
    assert token_spans(tokenizer, ids, candidates) == [span, (5, 9)]


def test_marks_of_a_sequence_are_not_written():
    tokenizer = make_tokenizer("byte_level_with_control_tokens")
    ids = tokenizer.convert_tokens_to_ids(["<s>", "a", "<|call|>", "</s>", "<pad>", "<unk>"])
    assert decode_response(tokenizer, ids) == "a<|call|>"


def test_text_without_special_tokens_is_decoded_once():
    tokenizer = CountingTokenizer(make_tokenizer("byte_level_with_control_tokens"))
    ids = tokenizer.tokenizer.encode("a film, 电影", add_special_tokens=False)
    decode_response(tokenizer, ids)
    tokenizer.decoded = 0
    text = decode_response(tokenizer, ids)
    assert tokenizer.decoded == len(ids)
    control = tokenizer.tokenizer.convert_tokens_to_ids("<|call|>")
    decode_response(tokenizer, [*ids, control])  # learns it
    tokenizer.decoded = 0
    assert decode_response(tokenizer, [*ids, control] * 2) == f"{text}<|call|>" * 2
    assert tokenizer.decoded == 2 * len(ids) + 2
