"""Tokenizers of the vocabularies that mistral_common ships, and tokenizers written in Python."""

import json
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from tokenizers import AddedToken, decoders
from transformers import LlamaTokenizer, PreTrainedTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.candidates.sample_tokenizers import (
    SPECIAL,
    byte_level_bpe,
    metaspace_bpe_with_byte_fallback,
)

SENTENCEPIECE = {
    "v1": "tokenizer.model.v1",
    "v2": "mistral_instruct_tokenizer_240216.model.v2",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
}
ALPHABET = bytes_to_unicode()
BYTE_OF = {character: byte for byte, character in ALPHABET.items()}
CONTROL = ["<|call|>", "<|ref|>", "<|box|>"]
"""Special tokens that are written in a response's text."""


def shipped(name):
    """Path of a vocabulary."""
    pytest.importorskip("mistral_common")
    path = Path(str(files("mistral_common") / "data" / name))
    if not path.is_file():
        pytest.skip("this version of mistral_common ships other vocabularies")
    return path


def mistral_common(name):
    """Mistral's own tokenizer behind the interface of Hugging Face."""
    from transformers import MistralCommonBackend

    return MistralCommonBackend(tokenizer_path=str(shipped(name)))


def llama(name):
    """The fast tokenizer that transformers makes of a SentencePiece model, as for Llama 2."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(shipped(name), Path(folder) / "tokenizer.model")
        tokenizer = LlamaTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(name, special=True) for name in CONTROL])
    return tokenizer


def slow_sentencepiece():
    """SentencePiece in Python: writes byte tokens as they are, and strips the text."""
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    special = dict(zip(["unk_token", "bos_token", "eos_token"], SPECIAL, strict=False))
    return SentencePieceBackend(vocab_file=str(shipped(SENTENCEPIECE["v1"])), **special)


def byte_fallback_without_strip():
    """Gemma 2 and 3: the first space stays."""
    tokenizer = metaspace_bpe_with_byte_fallback()
    tokenizer.backend_tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_tokens([AddedToken(name, special=True) for name in CONTROL])
    return tokenizer


def byte_level_with_control_tokens():
    """Llama 3, Qwen: tags are added tokens, tools have special tokens."""
    tokenizer = byte_level_bpe(tags=True)
    tokenizer.add_tokens([AddedToken(name, special=True) for name in CONTROL])
    return tokenizer


class TiktokenBytes(PreTrainedTokenizer):
    """Qwen 1, GLM 4: an entry of the vocabulary is bytes, a special token a string."""

    def __init__(self):
        import tiktoken

        trained = json.loads(byte_level_bpe().backend_tokenizer.to_str())["model"]["vocab"]
        entries = [name for name in trained if name not in SPECIAL]
        self.ranks = {bytes(BYTE_OF[c] for c in name): n for n, name in enumerate(entries)}
        self.encoding = tiktoken.Encoding(
            "test", pat_str=r"\S+|\s+", mergeable_ranks=self.ranks, special_tokens={}
        )
        self.entries = list(self.ranks)
        names = ["unk_token", "bos_token", "eos_token", "pad_token"]
        super().__init__(**dict(zip(names, SPECIAL, strict=True)), extra_special_tokens=CONTROL)

    @property
    def vocab_size(self):
        return len(self.ranks)

    def get_vocab(self):
        return self.ranks | self.added_tokens_encoder

    def encode(self, text, add_special_tokens=False):
        return self.encoding.encode(text)

    def _convert_token_to_id(self, token):
        return self.ranks.get(token)

    def _convert_id_to_token(self, index):
        return self.entries[index]

    def convert_tokens_to_string(self, tokens):
        text, waiting = "", b""
        for token in tokens:
            if isinstance(token, bytes):
                waiting += token
            else:
                text += waiting.decode("utf-8", "replace") + token
                waiting = b""
        return text + waiting.decode("utf-8", "replace")


class TiktokenNames(TiktokenBytes):
    """Kimi K2: entries as in byte-level vocabularies, decoded in Python."""

    def _convert_id_to_token(self, index):
        return "".join(ALPHABET[byte] for byte in self.entries[index])

    def convert_tokens_to_string(self, tokens):
        return bytes(BYTE_OF[c] for c in "".join(tokens)).decode("utf-8", "replace")


MISTRAL_SENTENCEPIECE = [f"mistral_sentencepiece_{version}" for version in SENTENCEPIECE]

SHIPPED_KINDS: dict[str, Callable[[], object]] = {
    "mistral_common_tekken": partial(mistral_common, "tekken_240911.json"),
    **{
        f"mistral_sentencepiece_{version}": partial(mistral_common, name)
        for version, name in SENTENCEPIECE.items()
    },
    **{f"llama_{version}": partial(llama, SENTENCEPIECE[version]) for version in ("v1", "v3")},
    "slow_sentencepiece": slow_sentencepiece,
    "byte_fallback_without_strip": byte_fallback_without_strip,
    "byte_level_with_control_tokens": byte_level_with_control_tokens,
    "tiktoken_bytes": TiktokenBytes,
    "tiktoken_names": TiktokenNames,
}
