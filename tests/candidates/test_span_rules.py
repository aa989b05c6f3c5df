"""Spans: the boundary rule case by case, and the rest of the contract."""

import gc
import weakref

import numpy as np
import pytest
import torch
from tokenizers import decoders

from shape_grpo.candidates import Candidate, decode_response, token_spans
from tests.candidates.sample_tokenizers import (
    CountingTokenizer,
    byte_level_bpe,
    hand_made_tokenizer,
    make_tokenizer,
)
from tests.candidates.shipped_tokenizers import SHIPPED_KINDS

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


def test_a_candidate_may_read_otherwise_than_it_is_written(hand_made):
    ids = ids_of(hand_made, ["<", "film"])
    assert token_spans(hand_made, ids, [Candidate("unescaped", 1, 5)]) == [(1, 2)]


def test_candidates_beyond_the_text_are_refused(hand_made):
    with pytest.raises(ValueError, match=r"candidate 0 \(0:5\).*ends after the text \(4\)"):
        token_spans(hand_made, ids_of(hand_made, ["film"]), [Candidate("film!", 0, 5)])


def test_candidates_out_of_order_are_refused(hand_made):
    candidates = [Candidate("ilm", 1, 4), Candidate("fi", 0, 2)]
    with pytest.raises(ValueError, match=r"candidate 1 \(0:2\) begins before"):
        token_spans(hand_made, ids_of(hand_made, ["film"]), candidates)


@pytest.mark.filterwarnings("error")
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
    assert counting.decoded == len(ids)


def test_nothing_keeps_a_tokenizer_alive():
    tokenizer = hand_made_tokenizer(["film"])
    token_spans(tokenizer, ids_of(tokenizer, ["film"]), [Candidate("film", 0, 4)])
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None


def test_a_language_that_mistral_leaves_out():
    tokenizer = SHIPPED_KINDS["mistral_common_tekken"]()
    ids = tokenizer.encode("lang:en a film", add_special_tokens=False)
    text = decode_response(tokenizer, ids)
    assert text == " a film"
    (span,) = token_spans(tokenizer, ids, [Candidate("film", 3, 7)])
    assert tokenizer.decode(ids[slice(*span)]) == " film"


def test_prefixes_warn_that_they_are_slow():
    tokenizer = byte_level_bpe()
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("good film", "nice one")]
    )
    ids = tokenizer.encode("a good film story", add_special_tokens=False)
    text = decode_response(tokenizer, ids)
    assert text == "a nice one story"
    with pytest.warns(UserWarning, match="text is not the sum of its tokens"):
        (span,) = token_spans(tokenizer, ids, [Candidate("story", 11, 16)])
    assert decode_response(tokenizer, ids[slice(*span)]).strip() == "story"
