"""Bytes that each token id adds to a text, by kind of tokenizer.

Also the special tokens: a token is special if decoding with ``skip_special_tokens=True`` leaves it
out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol
from weakref import WeakKeyDictionary

REPLACEMENT = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

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
        anchor: A plain token to put before another one, because decoders treat the first token of a
            text specially.
        token_bytes: Id to the bytes that it adds to a text; empty for special tokens.
        special: Id to the text of a special token that is written in a response's text.
        byte_tokens: The ``<0x00>`` to ``<0xFF>`` of tokenizers with byte fallback.
    """

    anchor: int
    token_bytes: dict[int, bytes] = field(default_factory=dict)
    special: dict[int, str] = field(default_factory=dict)
    byte_tokens: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """Return the vocabulary of a tokenizer, which is kept as long as the tokenizer lives."""
        if tokenizer not in _vocabularies:
            _vocabularies[tokenizer] = cls(_find_anchor(tokenizer))
        return _vocabularies[tokenizer]

    def learn(self, tokenizer: Tokenizer, ids: Sequence[int]) -> None:
        """Add the ids that are new."""
        for token_id in set(ids).difference(self.token_bytes):
            anchor = [self.anchor]
            text = decode(tokenizer, [*anchor, token_id])[len(decode(tokenizer, anchor)) :]
            token = tokenizer.convert_ids_to_tokens(token_id)
            if _fallback_byte(token, text) is not None:
                self.byte_tokens.add(token_id)
            self.token_bytes[token_id] = _bytes_of(token, text)
            if not text and token_id not in _marks_of_sequences(tokenizer):
                written = decode(tokenizer, [token_id], special=True)
                if written:
                    self.special[token_id] = written


_vocabularies: WeakKeyDictionary[Tokenizer, Vocabulary] = WeakKeyDictionary()


def token_pieces(tokenizer: Tokenizer, ids: list[int], text: str) -> list[bytes]:
    """Return the bytes that each token adds to ``text``, the decoding of ``ids``."""
    vocabulary = Vocabulary.of(tokenizer)
    vocabulary.learn(tokenizer, ids)
    known = vocabulary.token_bytes
    pieces = list(map(known.__getitem__, ids))
    first = next((n for n, piece in enumerate(pieces) if piece), None)
    if first is not None:
        # Decoders drop the first token's space, or keep its "##".
        alone = decode(tokenizer, [ids[first]])
        pieces[first] = _bytes_of(tokenizer.convert_ids_to_tokens(ids[first]), alone)
    if REPLACEMENT in text and not vocabulary.byte_tokens.isdisjoint(ids):
        # Byte fallback decodes a run of byte tokens as a whole: if that is not UTF-8, each token
        # becomes a replacement character.
        with_text = (n for n, token_id in enumerate(ids) if known[token_id])
        for is_bytes, run in groupby(with_text, lambda n: ids[n] in vocabulary.byte_tokens):
            positions = list(run)
            if is_bytes and not _is_utf8(b"".join(pieces[n] for n in positions)):
                for n in positions:
                    pieces[n] = REPLACEMENT.encode()
    return pieces


def _marks_of_sequences(tokenizer: Tokenizer) -> set[int | None]:
    """Return the special tokens that begin, end or pad a sequence, and say nothing else."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    return {getattr(tokenizer, name, None) for name in names}


def _find_anchor(tokenizer: Tokenizer) -> int:
    """Return a token that is a plain word of whole characters and not a byte token."""
    for token_id in range(len(tokenizer)):
        word = decode(tokenizer, [token_id]).strip()
        token = tokenizer.convert_ids_to_tokens(token_id)
        if word.isalnum() and _fallback_byte(token, word) is None:
            return token_id
    return 0


def _bytes_of(token: str | None, text: str) -> bytes:
    """Return the bytes of a token that decodes to `text`, even if they are part of a character."""
    byte = _fallback_byte(token, text)
    if byte is not None:
        return bytes([byte])
    if token and REPLACEMENT in text and _BYTE_LEVEL.keys() >= set(token):
        return bytes(_BYTE_LEVEL[character] for character in token)
    # A decoder in Python may give lone surrogates, to which no bytes decode.
    return text.encode("utf-8", "surrogatepass")


def _fallback_byte(token: str | None, text: str) -> int | None:
    """Return 0xNN if the token is `<0xNN>` and the tokenizer decodes it as that byte."""
    match = _BYTE_TOKEN.fullmatch(token or "")
    if match and text in (chr(int(match[1], 16)), REPLACEMENT):
        return int(match[1], 16)
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
