"""The bytes that each token id adds to a text, for any kind of tokenizer.

Also the special tokens: a token is special if decoding with ``skip_special_tokens=True`` leaves it
out, and with False writes it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from typing import Any, Protocol
from weakref import WeakKeyDictionary

REPLACEMENT = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# What decoders leave out at the front of a text: white space, and Mistral's the language of speech.
_LEFT_OUT = re.compile(rb"(lang:[a-z]{2})?\s*")
# An invalid sequence of one, two or three bytes becomes a character of as many bytes in UTF-8.
_FILLERS = "?\u00bf\ufffd"

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


def decode(tokenizer: Tokenizer, ids: Sequence[int], *, special: bool = False) -> str:
    """Return the text of token ids, without special tokens unless ``special`` is set."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
    )
    return text


@dataclass
class Vocabulary:
    """Known part of a tokenizer's vocabulary; grows with the ids that occur.

    Attributes:
        anchor: A plain token to put around another one, because decoders treat the first and the
            last token of a text specially.
        before: Length of the anchor's text before a token.
        after: Length of the anchor's text after a token.
        token_bytes: Id to the bytes that it adds to a text; empty for special tokens.
        first_bytes: Id to the bytes that it adds as the first token of a text.
        special: Id to the text of a special token that is written in a response's text.
        byte_tokens: The ``<0x00>`` to ``<0xFF>`` of tokenizers with byte fallback.
    """

    anchor: int
    before: int
    after: int
    token_bytes: dict[int, bytes] = field(default_factory=dict)
    first_bytes: dict[int, bytes] = field(default_factory=dict)
    special: dict[int, str] = field(default_factory=dict)
    byte_tokens: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, tokenizer: Tokenizer, ids: set[int]) -> Vocabulary:
        """Return a vocabulary with these ids, which is kept as long as the tokenizer lives."""
        if tokenizer not in _vocabularies:
            anchor = _find_anchor(tokenizer)
            before = len(decode(tokenizer, [anchor]))
            both = len(decode(tokenizer, [anchor, anchor]))
            _vocabularies[tokenizer] = cls(anchor, before, both - before)
        vocabulary = _vocabularies[tokenizer]
        new = ids.difference(vocabulary.token_bytes)
        if new:
            vocabulary._learn(tokenizer, new)
        return vocabulary

    def _learn(self, tokenizer: Tokenizer, ids: set[int]) -> None:
        marks = _marks_of_sequences(tokenizer)
        for token_id in ids:
            entry = _entry(tokenizer, token_id)
            if entry is None:
                continue  # may be added to the vocabulary later
            text = decode(tokenizer, [self.anchor, token_id, self.anchor])
            text = text[self.before : len(text) - self.after]
            if _fallback_byte(entry, text) is not None:
                self.byte_tokens.add(token_id)
            if not text and token_id not in marks:
                written = decode(tokenizer, [token_id], special=True)
                if written:
                    self.special[token_id] = written
            # Last: with it the id is known to the threads that score other responses.
            self.token_bytes[token_id] = _bytes_of(entry, text)

    def bytes_at_front(self, tokenizer: Tokenizer, token_id: int) -> bytes:
        """Return what a token adds as the first one: without its space, or with its "##"."""
        if token_id not in self.first_bytes:
            text = decode(tokenizer, [token_id, self.anchor])
            text = text[: len(text) - self.after]
            self.first_bytes[token_id] = _bytes_of(_entry(tokenizer, token_id), text)
        return self.first_bytes[token_id]


_vocabularies: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()


def token_pieces(
    tokenizer: Tokenizer, vocabulary: Vocabulary, ids: list[int], text: str
) -> tuple[list[bytes], str | None]:
    """Return the bytes that each token adds to ``text``, the decoding of ``ids``.

    Also return an image of ``text`` with as many characters as it, which as UTF-8 has the length of
    all the bytes: ``text`` itself, but for replacement characters. None if there is no such image,
    because ``text`` is not the sum of its tokens.

    Args:
        tokenizer: The tokenizer.
        vocabulary: Its vocabulary, which knows these ids.
        ids: Token ids.
        text: Their text without special tokens.
    """
    pieces = list(map(vocabulary.token_bytes.get, ids, repeat(b"")))
    first = next((n for n, piece in enumerate(pieces) if piece), None)
    if first is not None:
        pieces[first] = vocabulary.bytes_at_front(tokenizer, ids[first])
    if b"".join(pieces) == to_bytes(text):
        return pieces, text
    is_byte_token = bytes(map(vocabulary.byte_tokens.__contains__, ids))
    for image_pieces, image in _images(pieces, is_byte_token, text):
        if _agree(image, text):
            return image_pieces, image
    return pieces, None


def to_bytes(text: str) -> bytes:
    """Return text as UTF-8. Decoders in Python may give lone surrogates, which become bytes too."""
    return text.encode("utf-8", "surrogatepass")


def _images(
    pieces: list[bytes], is_byte_token: bytes, text: str
) -> Iterator[tuple[list[bytes], str]]:
    """Yield images as decoders make them of bytes that are not UTF-8, and of stripped text."""
    data = b"".join(pieces)
    if REPLACEMENT in text and 1 not in is_byte_token:
        # Byte-level decoders leave special tokens out first, and replace maximal subparts.
        yield pieces, data.decode("utf-8", "shape_grpo.fill_subparts")
        # Mistral's Tekken decodes the text between special tokens.
        runs = _runs(pieces)
        yield pieces, "".join(run.decode("utf-8", "shape_grpo.fill_subparts") for run in runs)
    elif REPLACEMENT in text:
        # SentencePiece decodes the text between special tokens, and replaces each byte.
        runs = _runs(pieces)
        yield pieces, "".join(run.decode("utf-8", "shape_grpo.fill_bytes") for run in runs)
        # Byte fallback of fast tokenizers leaves special tokens out first, and replaces each token
        # of a run of byte tokens that as a whole is not UTF-8.
        replaced, kinds = list(pieces), bytearray(is_byte_token)
        for n in _without_text(pieces):
            kinds[n] = kinds[n] or 2
        for run in re.finditer(rb"\x01[\x01\x02]*", kinds):
            if not _is_utf8(b"".join(pieces[run.start() : run.end()])):
                for n in range(*run.span()):
                    replaced[n] = b"?" if kinds[n] == 1 else b""
        yield replaced, b"".join(replaced).decode("utf-8", "replace")
    begin = data.rfind(to_bytes(text))
    stop = begin + len(to_bytes(text))
    if begin >= 0 and _LEFT_OUT.fullmatch(data[:begin]) and not data[stop:].strip():
        trimmed, end = [], 0
        for piece in pieces:
            start, end = end, end + len(piece)
            trimmed.append(data[max(start, begin) : min(end, stop)])
        yield trimmed, text


def _runs(pieces: list[bytes]) -> list[bytes]:
    """Return the bytes between tokens without text."""
    ends = [*_without_text(pieces), len(pieces)]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [b"".join(pieces[s:e]) for s, e in zip(starts, ends, strict=True)]


def _without_text(pieces: list[bytes]) -> list[int]:
    numbers, number = [], -1
    with suppress(ValueError):
        while True:
            number = pieces.index(b"", number + 1)
            numbers.append(number)
    return numbers


def _agree(image: str, text: str) -> bool:
    """Whether two texts are equal, but for replacement characters of ``text``."""
    at = 0
    for gap in re.finditer(f"{REPLACEMENT}+", text):
        begin, end = gap.span()
        if image[at:begin] != text[at:begin] or image[begin:end].strip(_FILLERS):
            return False
        at = end
    return len(image) == len(text) and image[at:] == text[at:]


def _marks_of_sequences(tokenizer: Tokenizer) -> set[int | None]:
    """Return the special tokens that begin, end or pad a sequence, and say nothing else."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    return {getattr(tokenizer, name, None) for name in names}


def _find_anchor(tokenizer: Tokenizer) -> int:
    """Return a token that is a plain word of whole characters and not a byte token."""
    for token_id in range(len(tokenizer)):
        word = decode(tokenizer, [token_id]).strip()
        if word.isalnum() and _fallback_byte(_entry(tokenizer, token_id), word) is None:
            return token_id
    return 0


_tekken_bytes = attrgetter("tokenizer.instruct_tokenizer.tokenizer.id_to_byte_piece")


def _entry(tokenizer: Tokenizer, token_id: int) -> str | bytes | None:
    """Return a token's entry in the vocabulary: a name, or bytes; None if there is none."""
    try:
        entry: bytes = _tekken_bytes(tokenizer)(token_id)
    except AttributeError:
        named: str | bytes | None = tokenizer.convert_ids_to_tokens(token_id)
        return named
    return entry


def _bytes_of(entry: str | bytes | None, text: str) -> bytes:
    """Return the bytes of a token that decodes to `text`, even if they are part of a character."""
    byte = _fallback_byte(entry, text)
    if byte is not None:
        return bytes([byte])
    if entry and REPLACEMENT in text:
        if isinstance(entry, bytes):
            return entry
        if _BYTE_LEVEL.keys() >= set(entry):
            return bytes(_BYTE_LEVEL[character] for character in entry)
    return to_bytes(text)


def _fallback_byte(entry: str | bytes | None, text: str) -> int | None:
    """Return 0xNN if the token is `<0xNN>` and the tokenizer decodes it as that byte."""
    match = _BYTE_TOKEN.fullmatch(entry) if isinstance(entry, str) else None
    if match and text in (chr(int(match[1], 16)), REPLACEMENT):
        return int(match[1], 16)
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fill_subpart(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _FILLERS[error.end - error.start - 1], error.end


def _fill_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _FILLERS[0], error.start + 1


codecs.register_error("shape_grpo.fill_subparts", _fill_subpart)
codecs.register_error("shape_grpo.fill_bytes", _fill_byte)
