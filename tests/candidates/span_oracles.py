"""Oracles of spans: each character of a response's text with its first and its last token.

They read the tokens one by one, by the rules of each kind of decoder. A character of a special
token has no token.
"""

from itertools import groupby
from operator import itemgetter

from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.candidates.shipped_tokenizers import MISTRAL_SENTENCEPIECE

BYTE_LEVEL = ["byte_level_bpe", "byte_level_bpe_with_tag_tokens", "mistral_tekken"]
BYTE_FALLBACK = [
    "metaspace_bpe_with_byte_fallback",
    "unigram_with_byte_fallback",
    "byte_fallback_without_strip",
    "llama_v1",
    "llama_v3",
]
IN_PYTHON = ["tiktoken_bytes", "tiktoken_names"]
BY_PREFIXES = ["unigram_without_byte_fallback", "word_piece", "word_piece_with_cleanup"]
WHOLE_CHARACTERS = [*BY_PREFIXES, "word_end_bpe", "slow_sentencepiece"]
"""Kinds whose tokens hold no part of a character."""


def plain_text(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def special_ids(tokenizer):
    """Return the tokens that decoding skips; fast tokenizers skip those added as special alone."""
    if getattr(tokenizer, "is_fast", False):
        return {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    return set(tokenizer.all_special_ids)


def control_ids(tokenizer):
    """Return the special tokens that are written in a response's text."""
    marks = ["bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"]
    return special_ids(tokenizer) - {getattr(tokenizer, name) for name in marks}


def text_of(characters):
    return "".join(map(itemgetter(0), characters))


def characters_of(name, tokenizer, ids):
    """Return (character, first token, last token) of a response's text."""
    control = control_ids(tokenizer)
    waiting = _plain_characters(name, tokenizer, ids)
    result = []
    for number, token_id in enumerate(ids):
        if token_id not in control:
            continue
        while waiting and waiting[0][2] < number:
            result.append(waiting.pop(0))
        result += [
            (character, None, None) for character in tokenizer.convert_ids_to_tokens(token_id)
        ]
    return result + waiting


def expected_spans(characters, candidates):
    """The documented rule in terms of sets of tokens."""
    taken, result = set(), []
    for candidate in candidates:
        tokens = {
            token
            for _, first, last in characters[candidate.start : candidate.end]
            if first is not None
            for token in range(first, last + 1)
        } - taken
        taken |= tokens
        result.append((min(tokens), max(tokens) + 1) if tokens else None)
    return result


def _plain_characters(name, tokenizer, ids):
    special = special_ids(tokenizer)
    is_special = [token_id in special for token_id in ids]
    if name in BYTE_FALLBACK:
        text = plain_text(tokenizer, ids)
        return _read(list(enumerate(_fallback_pieces(tokenizer, ids, is_special, text))))
    if name in BY_PREFIXES:
        return _by_prefixes(tokenizer, ids)
    if name in WHOLE_CHARACTERS:
        found = _read(list(enumerate(_named_pieces(tokenizer, ids, is_special))))
        if name == "slow_sentencepiece":
            return _stripped(found)
        # The end of the last word is no space.
        return found[:-1] if found and found[-1][0] == " " else found
    if name in MISTRAL_SENTENCEPIECE:
        pieces = list(_sentencepiece_pieces(tokenizer, ids, is_special))
        return _by_runs(pieces, is_special, one_byte=True)
    if name == "mistral_common_tekken":
        model = tokenizer.tokenizer.instruct_tokenizer.tokenizer
        bytes_of, shift = model._model.decode_single_token_bytes, model.num_special_tokens
        pieces = [b"" if n < shift else bytes_of(n - shift) for n in ids]
        return _by_runs(pieces, is_special, one_byte=False)
    return _read(list(enumerate(_byte_level_pieces(tokenizer, ids, is_special))))


def _read(pieces, one_byte=False):
    """Take one character at a time; a broken one has as many bytes as could begin a character."""
    data = b"".join(piece for _, piece in pieces)
    token_of = [token for token, piece in pieces for _ in piece]
    result, position = [], 0
    while position < len(data):
        width = 1
        for length in range(1, 5):
            try:
                data[position : position + length].decode()
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and not one_byte:
                    width = min(length, len(data) - position)
                continue
            width = length
            break
        character = data[position : position + width].decode(errors="replace")
        result.append((character, token_of[position], token_of[position + width - 1]))
        position += width
    return result


def _by_runs(pieces, is_special, one_byte):
    """Read each run of tokens between special tokens by itself."""
    result = []
    for special, run in groupby(enumerate(pieces), lambda item: is_special[item[0]]):
        result += [] if special else _read(list(run), one_byte)
    return result


def _by_prefixes(tokenizer, ids):
    """Decode every prefix; correct if no token holds a part of a character."""
    prefixes = [plain_text(tokenizer, ids[:n]) for n in range(len(ids) + 1)]
    text, result = prefixes[-1], []
    for position in range(len(text)):
        first = next(n for n in range(len(ids)) if len(prefixes[n + 1]) > position)
        last = max(
            n for n in range(len(ids)) if prefixes[n][: position + 1] != text[: position + 1]
        )
        result.append((text[position], first, last))
    return result


def _stripped(characters):
    while characters and characters[0][0].isspace():
        characters = characters[1:]
    while characters and characters[-1][0].isspace():
        characters = characters[:-1]
    return characters


def _byte_level_pieces(tokenizer, ids, is_special):
    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    for token_id, special in zip(ids, is_special, strict=True):
        token = tokenizer.convert_ids_to_tokens(token_id)
        if token is None or special:
            yield b""
        elif isinstance(token, bytes):
            yield token
        elif all(character in byte_of for character in token):
            yield bytes(byte_of[character] for character in token)
        else:
            yield token.encode()


def _fallback_pieces(tokenizer, ids, is_special, text):
    pieces, runs, run_open = [], [], False
    for n, (token_id, special) in enumerate(zip(ids, is_special, strict=True)):
        token = tokenizer.convert_ids_to_tokens(token_id)
        if token is None or special:
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


def _named_pieces(tokenizer, ids, is_special):
    for token_id, special in zip(ids, is_special, strict=True):
        token = "" if special else tokenizer.convert_ids_to_tokens(token_id) or ""
        yield token.replace("▁", " ").replace("</w>", " ").encode()


def _sentencepiece_pieces(tokenizer, ids, is_special):
    """The first space of a text is none of it."""
    at_front = True
    for token_id, special in zip(ids, is_special, strict=True):
        token = "" if special else tokenizer.convert_ids_to_tokens(token_id)
        if token_id == 0:
            piece = " ⁇ "
        elif token.startswith("<0x") and token.endswith(">"):
            yield bytes.fromhex(token[3:5])
            at_front = False
            continue
        else:
            piece = (token.removeprefix("▁") if at_front else token).replace("▁", " ")
        at_front = at_front and not token
        yield piece.encode()
