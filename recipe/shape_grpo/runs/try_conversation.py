"""A made-up answer to the first prompt of a run's data, for the dry run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.conversation import try_conversation
from shape_grpo.rewards import read_row


def conversation_lines(config: DictConfig) -> Iterator[str]:
    """Yield what the parser makes of the first prompt and a made-up answer.

    Raises:
        ValueError: The candidates of the answer are not found; the message says why.
    """
    files = config.data.train_files
    path = str(files[0] if isinstance(files, ListConfig) else files)
    if "://" in path or not path.endswith(".parquet"):
        yield "The first prompt was not tried: the training data are not local parquet files."
        return
    messages = read_row(Path(path).expanduser(), 0).get(config.data.get("prompt_key", "prompt"))
    if messages is None:
        yield "The first prompt was not tried: the data have none."
        return
    try:
        tokenizer = _load_tokenizer(config)
    except (OSError, ValueError) as error:
        yield f"The first prompt was not tried: {' '.join(str(error).split())[:200]}"
        return
    arguments: Any = OmegaConf.to_container(config.data.get("apply_chat_template_kwargs") or {})
    prompt = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True, **arguments
    )
    rules = ShapeGRPOConfig.from_algorithm(config.algorithm)
    count = config.dataset.candidates if "dataset" in config else min(rules.allowed, 3)
    limit = config.data.max_response_length
    yield from try_conversation(tokenizer, prompt, rules, count, limit).lines()


def _load_tokenizer(config: DictConfig) -> Any:
    """Load the policy's tokenizer, with the chat template that verl would use."""
    from transformers import AutoTokenizer

    model = config.actor_rollout_ref.model
    tokenizer = AutoTokenizer.from_pretrained(
        model.get("tokenizer_path") or model.path,
        trust_remote_code=bool(model.get("trust_remote_code")),
    )
    if model.get("custom_chat_template"):
        tokenizer.chat_template = model.custom_chat_template
    return tokenizer


def scale_line(config: DictConfig, unscaled: DictConfig) -> str | None:
    """Return a sentence if a scale caps responses below the task's own limit; else None.

    Args:
        config: The run's configuration.
        unscaled: The same without its scale.
    """
    limit, own = config.data.max_response_length, unscaled.data.max_response_length
    if limit >= own:
        return None
    return (
        f"The scale sets data.max_response_length={limit}, and the task {own}. Its short responses "
        "are for this scale's own policy: another model's answers would be cut off."
    )
