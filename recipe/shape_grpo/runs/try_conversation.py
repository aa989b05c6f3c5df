"""A made-up answer to the first prompt of a run's data, for the dry run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from recipe.shape_grpo.runs.try_prompts import Messages, render
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.conversation import try_conversation


def conversation_lines(config: DictConfig, tokenizer: Any, messages: Messages) -> Iterator[str]:
    """Yield what the parser makes of a prompt and a made-up answer.

    Raises:
        ValueError: The candidates of the answer are not found; the message says why.
    """
    prompt = render(config, tokenizer, messages)
    rules = ShapeGRPOConfig.from_algorithm(config.algorithm)
    count = config.dataset.candidates if "dataset" in config else min(rules.allowed, 3)
    limit = config.data.max_response_length
    yield from try_conversation(tokenizer, prompt, rules, count, limit).lines()
