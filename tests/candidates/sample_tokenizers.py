"""Tokenizers of every common kind, trained here, and one real vocabulary that a package ships."""

import base64
import json
import random
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

SENTENCES = (
    "the The a of film Films story candidate number answer good is and in 1. 2. 3) 2001: it's "
    "don't , . ! ? ( ) : ; < > </ > <think> recommend déjà vu naïve coöperate Ångström - * ** = "
    "_ { } [ ] # 42 3.14 Привет мир кино фильм κινηματογράφος שלום עולם مرحبا بالعالم فيلم "
    "电影 推荐 東京物語 千と千尋の神隠し 기생충 영화 हिन्दी फ़िल्म ภาพยนตร์ "
    "😀 👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪 e\u0301 a\u0308\u0323 Z\u0338a\u0337l\u0334"
)
WORDS = [*SENTENCES.split(), "\n", "\n\n", "\t"]

BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
TAGS = ["<candidate>", "</candidate>", "<think>", "</think>"]


def random_text(rng: random.Random, words: int) -> str:
    """Text of many scripts, with tags, odd spacing and some characters no tokenizer has seen."""
    parts = []
    for _ in range(rng.randrange(words + 1)):
        kind = rng.random()
        if kind < 0.7:
            parts.append(rng.choice(WORDS))
        elif kind < 0.85:
            parts.append(rng.choice(TAGS[:2]))
        else:
            parts.append(
                "".join(
                    chr(rng.choice([rng.randrange(32, 0x500), rng.randrange(0x1F300, 0x1F700)]))
                    for _ in range(rng.randrange(1, 4))
                )
            )
        parts.append(rng.choice(["", " ", " ", "  "]))
    return "".join(parts)


def _corpus() -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=30)) for _ in range(200)]


def _wrap(tokenizer: Tokenizer, tags: bool = False) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    if tags:
        fast.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return fast


def byte_level_bpe(tags: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2, Llama 3, Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _wrap(tokenizer, tags)


def byte_level_bpe_with_tag_tokens() -> PreTrainedTokenizerFast:
    """The same with the tags as added tokens, as Qwen3 has `<think>`."""
    fast = byte_level_bpe(tags=True)
    # Characters outside the byte-level alphabet, and one inside it that is no byte by itself.
    fast.add_tokens(["电影院 😀", "é"])
    return fast


def metaspace_bpe_with_byte_fallback() -> PreTrainedTokenizerFast:
    """Llama 2, Mistral, Phi-3."""
    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=440,
        limit_alphabet=80,  # the rest goes to byte tokens
        special_tokens=SPECIAL,
        show_progress=False,
    )
    trained.train_from_iterator([f"▁{word}" for word in WORDS] * 20, trainer)
    model = json.loads(trained.to_str())["model"]
    vocabulary = model["vocab"]
    vocabulary |= {token: len(vocabulary) + n for n, token in enumerate(BYTE_TOKENS)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(SPECIAL)
    return _wrap(tokenizer)


def _unigram_vocabulary() -> list[tuple[str, float]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=500, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    vocabulary: list[tuple[str, float]] = json.loads(tokenizer.to_str())["model"]["vocab"]
    return [(token, score) for token, score in vocabulary]


def unigram_with_byte_fallback(tags: bool = True) -> PreTrainedTokenizerFast:
    """Gemma 1, SentencePiece models with byte fallback; the tags as added tokens."""
    vocabulary = _unigram_vocabulary()
    rare = {"电", "影", "😀", "é", "л"}
    vocabulary = [(token, score) for token, score in vocabulary if not rare & set(token)]
    vocabulary += [(token, -20.0) for token in BYTE_TOKENS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    tokenizer.add_special_tokens(SPECIAL)
    return _wrap(tokenizer, tags)


def unigram_without_byte_fallback() -> PreTrainedTokenizerFast:
    """T5, XLM-RoBERTa."""
    tokenizer = Tokenizer(models.Unigram(_unigram_vocabulary(), unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(SPECIAL)
    return _wrap(tokenizer)


def _word_piece(cleanup: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=cleanup)
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _wrap(tokenizer, tags=True)


def word_piece() -> PreTrainedTokenizerFast:
    """BERT, with the tags as added tokens."""
    return _word_piece(cleanup=False)


def word_piece_with_cleanup() -> PreTrainedTokenizerFast:
    """BERT, whose decoder takes the space before punctuation away."""
    return _word_piece(cleanup=True)


def word_end_bpe() -> PreTrainedTokenizerFast:
    """GPT-1, CLIP: `</w>` at the end of words; its decoder treats the last token apart."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=SPECIAL,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    return _wrap(tokenizer)


def mistral_tekken() -> PreTrainedTokenizerFast:
    """A real vocabulary of 130k byte-level tokens, which the package mistral_common ships."""
    pytest.importorskip("mistral_common")
    path = files("mistral_common") / "data/tekken_240911.json"
    if not path.is_file():
        pytest.skip("this version of mistral_common ships another vocabulary")
    tekken = json.loads(path.read_text("utf-8"))
    size = tekken["config"]["default_vocab_size"] - tekken["config"]["default_num_special_tokens"]
    byte_strings = [base64.b64decode(entry["token_bytes"]) for entry in tekken["vocab"][:size]]
    alphabet = bytes_to_unicode()
    vocabulary = {"".join(alphabet[b] for b in item): n for n, item in enumerate(byte_strings)}
    # Decoding needs no merges; without them each byte is a token of its own when encoding.
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return _wrap(tokenizer)


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    make.__name__: make
    for make in (
        byte_level_bpe,
        byte_level_bpe_with_tag_tokens,
        metaspace_bpe_with_byte_fallback,
        unigram_with_byte_fallback,
        unigram_without_byte_fallback,
        word_piece,
        word_piece_with_cleanup,
        word_end_bpe,
        mistral_tekken,
    )
}


@lru_cache
def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """One of `KINDS`, made once."""
    return KINDS[name]()


def hand_made_tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of exactly these tokens."""
    special = [token for token in tokens if token in SPECIAL]
    plain = [token for token in tokens if token not in SPECIAL]
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    known = [token for token in plain if set(token) <= alphabet]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(known)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([token for token in plain if token not in known])
    return _wrap(tokenizer)


class CodePoints:
    """A token is a code point, as in CANINE. Decodes to lone surrogates, which Rust never does."""

    def __len__(self):
        return sys.maxunicode + 1

    def decode(self, token_ids, **kwargs):
        return "".join(chr(token_id) for token_id in token_ids if token_id < len(self))

    def encode(self, text, **kwargs):
        return list(map(ord, text))

    def convert_ids_to_tokens(self, token_id):
        return chr(token_id) if token_id < len(self) else None


class CountingTokenizer:
    """Tokenizer that counts the ids that were decoded."""

    def __init__(self, tokenizer):
        self.tokenizer, self.decoded = tokenizer, 0

    def __len__(self):
        return len(self.tokenizer)

    def decode(self, ids, **options):
        self.decoded += len(ids)
        return self.tokenizer.decode(ids, **options)

    def convert_ids_to_tokens(self, token_id):
        return self.tokenizer.convert_ids_to_tokens(token_id)
