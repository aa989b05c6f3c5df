"""The prompts of a run's data by the policy's tokenizer, for the dry run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.reading import encode
from shape_grpo.rewards.rows import read_rows
from shape_grpo.verl.chat_template import no_template, tokenizer_name
from shape_grpo.verl.data import CHECKED, local_paths
from shape_grpo.verl.prompts import texts_of

SAMPLE = 256
"""Number of prompts of each key that are measured, at equal distances, up to twice as many."""
_HUB_TIMEOUT = 5
"""In seconds; an unreachable hub is otherwise asked for more than a minute."""
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNT = rf"(\d{{1,2}}|{'|'.join(_WORDS)})"
# "five (5) films" names 5 films, and "exactly 5." a number of something.
_NUMBER = re.compile(rf"\b{_COUNT}(?:\s*\(\w+\))?\s+(?:[\w-]+\s+){{0,2}}?([a-z]+s)\b", re.I)
_EXACT = re.compile(rf"\bexactly\s+{_COUNT}()(?!\s*[\w(%-])(?![.,]\d)", re.I)
_UNITS = re.compile(
    r"(?:word|character|letter|sentence|line|token|paragraph|point|star|digit|minute|second|hour|day|"
    r"week|month|year|time)s",
    re.I,
)
Messages = list[dict[str, Any]]


class NotLoaded(Exception):
    """Error for a tokenizer that cannot be loaded here; the message says why."""


def load_tokenizer(config: DictConfig) -> Any:
    """Load the policy's tokenizer, with the chat template that verl would use.

    Raises:
        NotLoaded: It is neither in a folder nor in the cache, and the hub does not answer.
        ValueError: It has no chat template.
    """
    # Imported here because the import takes seconds.
    from transformers import AutoTokenizer

    model, name = config.actor_rollout_ref.model, tokenizer_name(config)
    options: dict[str, Any] = {"trust_remote_code": bool(model.get("trust_remote_code"))}
    try:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=True, **options)
        except (OSError, ValueError):
            if Path(name).expanduser().is_dir() or not _hub_answers():
                raise
            tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except Exception as error:
        raise NotLoaded(f"{name}: {' '.join(str(error).split())[:160]}") from None
    if model.get("custom_chat_template"):
        tokenizer.chat_template = model.custom_chat_template
    if not getattr(tokenizer, "chat_template", None) and hasattr(tokenizer, "backend_tokenizer"):
        raise ValueError(no_template(name))
    return tokenizer


def _hub_answers() -> bool:
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT)
    except Exception:
        return False
    return True


@dataclass(frozen=True)
class Prompts:
    """Prompts of ``data.train_files`` or ``val_files``.

    Attributes:
        sample: All of them, or some at equal distances.
        total: Number of all.
    """

    sample: list[Messages]
    total: int


def read_prompts(config: DictConfig, key: str) -> Prompts:
    """Return the prompts of ``data.train_files`` or ``val_files`` on this machine."""
    sample: list[Messages] = []
    total, step = 0, 1
    for messages in _prompts(config, key):
        if total % step == 0:
            sample.append(messages)
        total += 1
        if len(sample) == 2 * SAMPLE:
            sample, step = sample[::2], 2 * step
    return Prompts(sample, total)


def _prompts(config: DictConfig, key: str) -> Iterator[Messages]:
    """Yield the prompts that verl takes of a key's rows; all if it takes them at random."""
    name, paths = config.data.get("prompt_key", "prompt"), local_paths(config.data[key])
    limit = config.data.get(f"{key.removesuffix('_files')}_max_samples", -1)
    rows = (row for path in paths for row in read_rows(path, [name]))
    used: Collection[int] = range(CHECKED)
    if limit > 0 and not config.data.shuffle:
        used = range(limit)
    elif limit > 0 and config.data.seed is not None:
        total = sum(1 for path in paths for _ in read_rows(path, [name]))
        if limit < total:
            chosen = np.random.default_rng(config.data.seed).choice(total, limit, replace=False)
            used = {*chosen.tolist()}
    return (row[name] for number, row in enumerate(islice(rows, CHECKED)) if number in used)


def render(config: DictConfig, tokenizer: Any, messages: Messages) -> str:
    """Return a prompt as the policy reads it.

    Raises:
        ValueError: The chat template refuses it, or leaves a message out.
    """
    arguments: Any = OmegaConf.to_container(config.data.get("apply_chat_template_kwargs") or {})
    try:
        prompt: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **arguments
        )
    except Exception as error:
        raise ValueError(f"the chat template cannot render {messages!r:.200}: {error}") from None
    read = "".join(prompt.split())
    for place, message in enumerate(messages, start=1):
        is_last = place == len(messages)
        # Of earlier answers templates may drop the thoughts, and of a tool's they may write JSON.
        if not is_last and message["role"] in ("assistant", "tool"):
            continue
        for text in texts_of(message.get("content")):
            if "".join(text.split()) not in read:
                which = "the last message" if is_last else f"message {place}"
                raise ValueError(
                    f"the chat template leaves {which} out, of the role {message['role']}: "
                    f"{text[:100]!r} became {prompt[-200:]!r}."
                )
    return prompt


def length_lines(
    config: DictConfig, tokenizer: Any, prompts: Mapping[str, Prompts]
) -> Iterator[str]:
    """Yield how long the prompts of each key are, and what verl does with those that are too long.

    Raises:
        ValueError: All are too long, or fewer than a batch would be left.
    """
    limit = config.data.max_prompt_length
    for key, of_key in prompts.items():
        lengths = [
            len(encode(tokenizer, render(config, tokenizer, messages)))
            for messages in of_key.sample
        ]
        longer = sum(length > limit for length in lengths)
        is_all = len(lengths) == of_key.total
        of = "all" if is_all else f"{len(lengths)} of the"
        measured = (
            f"data.{key}: {of} {of_key.total} prompts were measured: {min(lengths)} to "
            f"{max(lengths)} tokens; data.max_prompt_length is {limit}"
        )
        if not longer:
            yield f"{measured}."
            continue
        is_left_out = config.data.filter_overlong_prompts
        does = "leaves them out" if is_left_out else "cuts off their beginning"
        told = f"{measured}. {longer} of {len(lengths)} are longer, and verl {does}"
        left, batch_size = len(lengths) - longer, config.data.train_batch_size
        is_too_few = not left
        if is_left_out and left * of_key.total < 2 * batch_size * len(lengths):
            needed = batch_size if key == "train_files" else 1
            is_too_few = not _at_least(needed, config, tokenizer, key)
        if is_too_few:
            raise ValueError(
                f"{told}: write data.max_prompt_length={max(lengths)} or more (a scale may set it)."
            )
        yield f"{told}."


def _at_least(needed: int, config: DictConfig, tokenizer: Any, key: str) -> bool:
    """Return whether as many prompts of a key are no longer than allowed, by measuring all."""
    limit = config.data.max_prompt_length
    fitting = (
        messages
        for messages in _prompts(config, key)
        if len(encode(tokenizer, render(config, tokenizer, messages))) <= limit
    )
    return len(list(islice(fitting, needed))) == needed


def candidates_line(config: DictConfig) -> str:
    """Return how many candidates of a response count, and which setting says so."""
    allowed = ShapeGRPOConfig.from_algorithm(config.algorithm).max_candidates
    if allowed is None:
        return "All candidates of a response count, up to 64 (algorithm.shape_grpo.max_candidates)."
    typed = "dataset" in config and config.dataset.candidates == allowed
    where = "dataset.candidates" if typed else "algorithm.shape_grpo.max_candidates"
    return (
        f"{allowed} candidates of a response count ({where}={allowed}); the prompts must ask for "
        "as many."
    )


def asked_for_line(prompts: Sequence[Messages], count: int) -> str | None:
    """Return a hint if the prompts seem to ask for another number of candidates; else None.

    It is a guess: a number of things ("4 dishes", "four short titles") that all prompts name.
    """
    texts = [" ".join(str(message.get("content")) for message in messages) for messages in prompts]
    named = [
        {
            (_value(number), noun.lower())
            for pattern in (_NUMBER, _EXACT)
            for number, noun in pattern.findall(text)
        }
        for text in texts
    ]
    common = set.intersection(*named) if named else set()
    if any(number == count for number, _ in common):
        return None
    others = sorted(
        f"{number} {noun}".rstrip()
        for number, noun in common
        if number > 1 and not _UNITS.fullmatch(noun)
    )
    if not others:
        return None
    return (
        f"All prompts name {', '.join(others)}, and none names {count}. If that is the number of "
        "candidates, write it as dataset.candidates."
    )


def _value(number: str) -> int:
    return int(number) if number.isdecimal() else _WORDS.index(number.lower()) + 1
