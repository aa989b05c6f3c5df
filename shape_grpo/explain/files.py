"""Files that the command ``explain`` reads. Each error is a ValueError that names the option."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from shape_grpo.explain.reading import Part
from shape_grpo.rewards import read_row


def read_row_at(where: str) -> Mapping[str, Any]:
    """Return the row of ``--row FILE:N``."""
    path, _, number = where.rpartition(":")
    if not path or not number.isdecimal():
        raise ValueError(f"--row {where}: write FILE:N, as train.parquet:0")
    row = read_row(Path(path).expanduser(), int(number))
    for name in ("data_source", "reward_model"):
        if row.get(name) is None:
            raise ValueError(
                f"--row {where}: it has no {name}, which verl needs; it has: {', '.join(row)}"
            )
    return row


def read_prompt(
    file: Path | None, row: Mapping[str, Any], tokenizer: Any, settings: DictConfig
) -> str:
    """Return the rendered prompt of ``--prompt``, or of the row, as far as it is known."""
    if file:
        return _read_text(file, "--prompt")
    if tokenizer is None or "prompt" not in row or not tokenizer.chat_template:
        return ""
    arguments = OmegaConf.select(settings, "data.apply_chat_template_kwargs") or {}
    prompt: str = tokenizer.apply_chat_template(
        list(row["prompt"]), tokenize=False, add_generation_prompt=True, **arguments
    )
    return prompt


def read_parts(file: Path, tokenizer: Any) -> list[Part]:
    """Read a response's text, token ids or messages, and which of these the policy wrote."""
    text = _read_text(file, "--response")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return [(text, True)]
    if not isinstance(content, list) or not content:
        return [(text, True)]
    if all(map(_is_message, content)):
        return [(_text_of(each), each["role"] == "assistant") for each in content]
    if not all(type(token) is int for token in content):
        return [(text, True)]
    if tokenizer is None:
        raise ValueError(f"--response {file} holds token ids: give the policy's --tokenizer")
    if not 0 <= min(content) <= max(content) < len(tokenizer):
        raise ValueError(
            f"--response {file}: token ids from {min(content)} to {max(content)}, and --tokenizer "
            f"knows those from 0 to {len(tokenizer) - 1}"
        )
    return [(content, True)]


def _is_message(value: Any) -> bool:
    """Whether a value of JSON is a chat message; candidates may be objects, too."""
    is_dict = isinstance(value, dict) and isinstance(value.get("role"), str)
    return is_dict and bool({"content", "tool_calls"} & value.keys())


def _text_of(message: Mapping[str, Any]) -> str:
    """Return a chat message's text; that of a message of tool calls alone is empty."""
    content = message.get("content") or ""
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _read_text(file: Path, option: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{option} {file}: it is not UTF-8 text ({error})") from None


def load_tokenizer(path: str) -> Any:
    """Return the tokenizer of ``--tokenizer``."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--tokenizer {path}: {reason}") from error
