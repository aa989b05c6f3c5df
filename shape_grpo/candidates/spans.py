"""Find the tokens that carry each candidate, from the token ids alone.

The text is never tokenised again, which could give other ids than the model sampled. Instead, each
id is mapped to the bytes that it adds to the text. The bytes of all ids must decode to exactly the
tokenizer's text; with an uncommon decoder they do not, and the spans are found by decoding prefixes
of the ids, which is slower.
"""

import codecs
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, groupby
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from shape_grpo.candidates.parsing import Candidate

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_REPLACEMENT = "\ufffd"

# Byte per character in byte-level vocabularies (GPT-2's and later ones): printable bytes stand for
# themselves, the others are the characters from U+0100 on.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTE_LEVEL = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(0x100 + n): byte for n, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    def __len__(self) -> int: ...

    def decode(self, token_ids: list[int], **kwargs: Any) -> Any:
        """Return the text of token ids."""

    def convert_ids_to_tokens(self, ids: int) -> Any:
        """Return a token id's entry in the vocabulary."""


@dataclass
class _Vocabulary:
    """Known part of a tokenizer's vocabulary; grows with the ids that occur."""

    # A plain token to put before another one, because decoders treat the first token specially.
    anchor: int
    token_bytes: dict[int, bytes] = field(default_factory=dict)
    # The <0x00>...<0xFF> of tokenizers with byte fallback.
    byte_tokens: set[int] = field(default_factory=set)


_vocabularies: "WeakKeyDictionary[Tokenizer, _Vocabulary]" = WeakKeyDictionary()


def decode_response(tokenizer: Tokenizer, response_ids: Sequence[int]) -> str:
    """Return the text that candidates are parsed from and their offsets refer to.

    Special tokens are left out, so `<candidate>` and `<think>` must not be special tokens (added
    tokens that are not special are fine).

    Args:
        tokenizer: A Hugging Face tokenizer.
        response_ids: Token ids of the response.
    """
    text: str = tokenizer.decode(
        _as_list(response_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def token_spans(
    tokenizer: Tokenizer, response_ids: Sequence[int], candidates: Sequence[Candidate]
) -> list[tuple[int, int]]:
    """Return for each candidate the (start, end) of its tokens in `response_ids`, end exclusive.

    - A span reaches from the first to the last token that carries any byte of the candidate. So a
      token that the candidate shares with the text around it (`>The`) belongs to the candidate, and
      so does each token of a character that is split over tokens.
    - A token shared by two candidates belongs to the first. Spans never overlap; a candidate that
      lies within a token of an earlier one has an empty span.
    - Tokens that carry no text (special tokens) belong to a span only if they are inside it.
    - An empty candidate has an empty span (start == end).

    Args:
        tokenizer: A Hugging Face fast tokenizer of any kind. The bytes of its tokens are cached as
            long as the tokenizer lives.
        response_ids: Token ids of the response, (T,).
        candidates: Candidates in `decode_response(tokenizer, response_ids)`, in order and not
            overlapping.

    Raises:
        ValueError: A candidate's text is not at its position in the decoded response, or
            candidates are out of order.
    """
    if not candidates:
        return []
    ids = _as_list(response_ids)
    text = decode_response(tokenizer, ids)
    _check(text, candidates)
    pieces = _pieces(tokenizer, ids, text)
    data = b"".join(pieces)
    if data.decode("utf-8", "replace") == text:
        touched = _spans_by_bytes(pieces, data, candidates)
    else:
        warnings.warn(
            f"{type(tokenizer).__name__}: text is not the sum of its tokens under this decoder; "
            "candidates are located by decoding prefixes, about 200 times slower",
            stacklevel=2,
        )
        touched = _spans_by_prefixes(tokenizer, ids, text, candidates)
    spans = []
    free = 0
    for first, end in touched:
        start = max(first, free)
        while start < end and not pieces[start]:
            start += 1
        free = max(start, end)
        spans.append((start, free))
    return spans


def _as_list(ids: Sequence[int]) -> list[int]:
    # Elements of arrays and tensors are not keys of a dictionary of ints.
    values: list[int] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    return values


def _check(text: str, candidates: Iterable[Candidate]) -> None:
    previous_end = 0
    for number, candidate in enumerate(candidates):
        start, end = candidate.start, candidate.end
        if text[start:end] != candidate.text:
            raise ValueError(
                f"candidate {number} is {candidate.text[:40]!r}, but the response reads "
                f"{text[start:end][:40]!r} at {start}:{end}: parse the candidates from "
                "decode_response(tokenizer, response_ids) of the same ids"
            )
        if not previous_end <= start <= end:
            raise ValueError(
                f"candidate {number} ({start}:{end}) begins before the end of the one before it "
                f"({previous_end}): give candidates in order and without overlap"
            )
        previous_end = end


def _pieces(tokenizer: Tokenizer, ids: list[int], text: str) -> list[bytes]:
    """Return the bytes that each token adds to `text`, the decoding of `ids`."""
    if tokenizer not in _vocabularies:
        _vocabularies[tokenizer] = _Vocabulary(_find_anchor(tokenizer))
    vocabulary = _vocabularies[tokenizer]
    known = vocabulary.token_bytes
    for token_id in set(ids).difference(known):
        _learn(tokenizer, vocabulary, token_id)
    pieces = list(map(known.__getitem__, ids))
    first = next((n for n, piece in enumerate(pieces) if piece), None)
    if first is not None:
        # Decoders drop the first token's space, or keep its "##".
        alone = decode_response(tokenizer, [ids[first]])
        pieces[first] = _bytes_of(tokenizer.convert_ids_to_tokens(ids[first]), alone)
    if _REPLACEMENT in text and not vocabulary.byte_tokens.isdisjoint(ids):
        # Byte fallback decodes a run of byte tokens as a whole: if that is not UTF-8, each token
        # becomes a replacement character.
        with_text = (n for n, token_id in enumerate(ids) if known[token_id])
        for is_bytes, run in groupby(with_text, lambda n: ids[n] in vocabulary.byte_tokens):
            positions = list(run)
            if is_bytes and not _is_utf8(b"".join(pieces[n] for n in positions)):
                for n in positions:
                    pieces[n] = _REPLACEMENT.encode()
    return pieces


def _learn(tokenizer: Tokenizer, vocabulary: _Vocabulary, token_id: int) -> None:
    anchor = [vocabulary.anchor]
    text = decode_response(tokenizer, [*anchor, token_id])[
        len(decode_response(tokenizer, anchor)) :
    ]
    token = tokenizer.convert_ids_to_tokens(token_id)
    if _fallback_byte(token, text) is not None:
        vocabulary.byte_tokens.add(token_id)
    vocabulary.token_bytes[token_id] = _bytes_of(token, text)


def _find_anchor(tokenizer: Tokenizer) -> int:
    """Return a token that is a plain word of whole characters and not a byte token."""
    for token_id in range(len(tokenizer)):
        word = decode_response(tokenizer, [token_id]).strip()
        token = tokenizer.convert_ids_to_tokens(token_id)
        if word.isalnum() and _fallback_byte(token, word) is None:
            return token_id
    return 0


def _bytes_of(token: str | None, text: str) -> bytes:
    """Return the bytes of a token that decodes to `text`, even if they are part of a character."""
    byte = _fallback_byte(token, text)
    if byte is not None:
        return bytes([byte])
    if token and _REPLACEMENT in text and _BYTE_LEVEL.keys() >= set(token):
        return bytes(_BYTE_LEVEL[character] for character in token)
    # A decoder in Python may give lone surrogates, to which no bytes decode.
    return text.encode("utf-8", "surrogatepass")


def _fallback_byte(token: str | None, text: str) -> int | None:
    """Return 0xNN if the token is `<0xNN>` and the tokenizer decodes it as that byte."""
    match = _BYTE_TOKEN.fullmatch(token or "")
    if match and text in (chr(int(match[1], 16)), _REPLACEMENT):
        return int(match[1], 16)
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fill_invalid(error: UnicodeError) -> tuple[str, int]:
    """Replace an invalid sequence by one character of the same length in UTF-8."""
    assert isinstance(error, UnicodeDecodeError)
    return "?\u00bf\ufffd"[error.end - error.start - 1], error.end


codecs.register_error("shape_grpo.fill_invalid", _fill_invalid)


def _spans_by_bytes(
    pieces: list[bytes], data: bytes, candidates: Iterable[Candidate]
) -> list[tuple[int, int]]:
    # Has as many characters as the decoded text and as many bytes as `data`.
    text = data.decode("utf-8", "shape_grpo.fill_invalid")
    piece_ends = list(accumulate(map(len, pieces)))
    spans = []
    character = byte = 0
    for candidate in candidates:
        first_byte = byte + len(text[character : candidate.start].encode())
        byte = first_byte + len(text[candidate.start : candidate.end].encode())
        character = candidate.end
        first = bisect_right(piece_ends, first_byte)
        end = bisect_left(piece_ends, byte) + 1 if byte > first_byte else first
        spans.append((first, end))
    return spans


def _spans_by_prefixes(
    tokenizer: Tokenizer, ids: list[int], text: str, candidates: Iterable[Candidate]
) -> list[tuple[int, int]]:
    """Bisect for the spans; correct if a longer prefix of ids never decodes to a shorter text."""

    def length(count: int) -> int:
        return len(decode_response(tokenizer, ids[:count]))

    def covers(count: int, end: int) -> bool:
        return decode_response(tokenizer, ids[:count])[:end] == text[:end]

    counts = range(len(ids) + 1)
    spans = []
    for candidate in candidates:
        # From its first token on, a split character decodes as a replacement character.
        first = bisect_right(counts, candidate.start, key=length) - 1
        end = bisect_left(counts, True, key=partial(covers, end=candidate.end))
        spans.append((first, end if candidate.text else first))
    return spans
