"""Turns of a policy in a response, and the token ids that end one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any


def turns_of(response_mask: Sequence[int]) -> list[tuple[int, int]]:
    """Return ``(start, end)`` of each run of tokens that the policy wrote.

    Args:
        response_mask: (T,) 1 for tokens of the policy, 0 for tokens of a tool or the template.
    """
    turns = []
    start = 0
    for written, run in groupby(response_mask):
        end = start + sum(1 for _ in run)
        if written:
            turns.append((start, end))
        start = end
    return turns


def end_of_turn_ids(tokenizer: Any, models: Iterable[str | None] = ()) -> frozenset[int]:
    """Return the ids at which engines stop: those of the tokenizer and of the model's files.

    Gemma, Phi, Llama 3 and others name several in ``generation_config.json``, and their tokenizer
    only one of them.

    Args:
        tokenizer: A Hugging Face tokenizer.
        models: Folders, or names on the hub that are in the local cache; files that do not exist
            add nothing.
    """
    ids = {getattr(tokenizer, "eos_token_id", None)}
    for model in filter(None, models):
        for config in _configs(model):
            named = getattr(config, "eos_token_id", None)
            ids.update(named if isinstance(named, list) else [named])
    return frozenset(token_id for token_id in ids if token_id is not None)


def _configs(model: str) -> list[Any]:
    from transformers import AutoConfig, GenerationConfig

    found = []
    for kind in (GenerationConfig, AutoConfig):
        try:
            found.append(kind.from_pretrained(model, local_files_only=True))
        # Files that are missing, and models that this version of transformers does not know.
        except (OSError, ValueError, KeyError):
            continue
    return found
