"""Byte-level tokenizers with custom special tokens, as chat templates have them."""

import copy
from functools import lru_cache

from tokenizers import AddedToken

from tests.candidates.sample_tokenizers import make_tokenizer


@lru_cache
def tokenizer_with(*special):
    """A byte-level tokenizer of which these are special tokens, one id each."""
    tokenizer = copy.deepcopy(make_tokenizer("byte_level_bpe"))
    added = [AddedToken(token, normalized=False, special=True) for token in special]
    tokenizer.add_tokens(added, special_tokens=True)
    return tokenizer


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)
