"""The policy's chat template, read without loading its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

_JSON = ("tokenizer_config.json", "chat_template.json", "processor_config.json")


def check_chat_template(config: DictConfig) -> None:
    """Check that the policy has a chat template; without one, verl drops every prompt as too long.

    Raises:
        ValueError: Its folder has none, and the configuration neither.
    """
    if read_chat_template(config) == "":
        raise ValueError(no_template(tokenizer_name(config)))


def tokenizer_name(config: DictConfig) -> str:
    """Return the folder of the policy's tokenizer, or its name on the hub."""
    model = config.actor_rollout_ref.model
    return str(model.get("tokenizer_path") or model.path)


def no_template(tokenizer: str) -> str:
    """Return the message for a tokenizer without a chat template."""
    return (
        f"actor_rollout_ref.model.path: the tokenizer of {tokenizer} has no chat template, and "
        "verl renders every prompt by one. Take the instruct variant of the model, or write "
        "actor_rollout_ref.model.custom_chat_template=TEMPLATE, in Jinja; to copy another model's: "
        "tokenizer.chat_template = AutoTokenizer.from_pretrained(OTHER).chat_template; "
        "tokenizer.save_pretrained(FOLDER)."
    )


def has_no_processor(config: DictConfig) -> bool:
    """Return whether the policy is a folder without a processor of images, videos or audios."""
    folder = Path(tokenizer_name(config)).expanduser()
    is_known = (folder / "config.json").is_file() and "auto_map" not in _read(folder / _JSON[0])
    return is_known and not any(folder.glob("*processor_config.json"))


def read_chat_template(config: DictConfig) -> str | None:
    """Return the text of the policy's chat templates.

    Returns:
        An empty text if there is none; None if it is not known, as for a name on the hub.
    """
    custom: str | None = config.actor_rollout_ref.model.get("custom_chat_template")
    if custom is not None:
        return custom
    folder = Path(tokenizer_name(config)).expanduser()
    settings = _read(folder / _JSON[0])
    # Python code of the model, or mistral-common's, may need no template.
    is_code = "auto_map" in settings or (folder / "tekken.json").is_file()
    has_tokenizer = bool(settings) or (folder / "tokenizer.json").is_file()
    if is_code or not has_tokenizer:
        return None
    values = [value for name in _JSON if (value := _read(folder / name).get("chat_template"))]
    found = [value if isinstance(value, str) else json.dumps(value) for value in values]
    found += [path.read_text(encoding="utf-8") for path in folder.rglob("*.jinja")]
    return "\n".join(found).strip()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
