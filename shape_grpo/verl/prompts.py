"""Checks of prompts: lists of chat messages that the policy's chat template can show."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from shape_grpo.registry import closest

ROLES = ("system", "user", "assistant", "tool", "developer")
_OTHER_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_MARK = "Suggest three slogans."


def chat_form(name: str, text: str) -> str:
    """Return how to make the column ``name`` of chat messages from one of texts."""
    return (
        f'Write one list of chat messages per row: data["{name}"] = [[{{"role": "user", '
        f'"content": text}}] for text in data["{text}"]].'
    )


def wrong_prompt(prompt: Any, name: str) -> str | None:
    """Return what is wrong with a row's prompt, in the column ``name``; None if it is right."""
    if prompt is None:
        return f"{name} is null. {chat_form(name, 'question')}"
    if isinstance(prompt, str):
        if prompt.lstrip().startswith("[{"):
            return f"{name} is the text of a list. Write the list itself, {_loads(prompt)}({name})."
        form = chat_form(name, name)
        return f"{name} is text, whose characters verl would take for messages. {form}"
    if not isinstance(prompt, list):
        is_one = isinstance(prompt, dict) and "role" in prompt
        what = "one message" if is_one else type(prompt).__name__
        return f"{name} is {what}, and no list. {chat_form(name, 'question')}"
    if not prompt:
        return f"{name} has no messages. {chat_form(name, 'question')}"
    for message in prompt:
        if not isinstance(message, dict):
            return f"{name} is a list of {type(message).__name__}. {chat_form(name, 'question')}"
        if not isinstance(message.get("role"), str):
            return (
                f"{name} has a message without role and content, which has: {', '.join(message)}. "
                'Write {"role": "user", "content": TEXT}.'
            )
        content = message.get("content")
        if not isinstance(content, str | list) and not message.get("tool_calls"):
            return f"{name} has a message whose content is {type(content).__name__}. Write text."
        if isinstance(content, list) and not all(isinstance(part, dict) for part in content):
            return f"{name} has a message whose content is a list of texts. Write one text."
    asked = [message for message in prompt if message["role"] not in ("system", "developer")]
    if not any(_has_text(message.get("content")) for message in asked or prompt):
        return f"{name} is blank: no message has any text. Write it, or leave the row out."
    return None


def _loads(text: str) -> str:
    """Return the function that reads a text as JSON, or else as Python prints a list."""
    try:
        json.loads(text)
    except ValueError:
        return "ast.literal_eval"
    return "json.loads"


def texts_of(content: Any) -> list[str]:
    """Return the texts of a message's content, which is one text or a list of parts."""
    parts = content if isinstance(content, list) else [{"text": content}]
    return [text for part in parts if isinstance(text := part.get("text"), str)]


def _has_text(content: Any) -> bool:
    """Return whether a message's content has a text that is not blank, or an image or the like."""
    others = isinstance(content, list) and any(
        part.get("type", "text") != "text" for part in content
    )
    return others or any(map(str.strip, texts_of(content)))


def wrong_message(prompt: list[dict[str, Any]], template: str | None) -> str | None:
    """Return what the chat template, if it is known, would leave out of a prompt; else None."""
    for message in prompt:
        role, content = message["role"], message.get("content")
        if fault := _wrong_role(role, template):
            return fault
        if isinstance(content, list) and texts_of(content) and _shows_no_parts(template, role):
            return (
                f"a message of the role {role} has a list of parts as its content, which the "
                "policy's chat template does not read. Write its text."
            )
    return None


@lru_cache
def _wrong_role(role: str, template: str | None) -> str | None:
    if role in ("system", "user", "assistant"):
        return None
    text = _rendered(template, role, _MARK)
    if text is not None and _MARK in text:
        return None
    if correct := _correct_role(role):
        return f"a message has the role {role}, which chat templates call {correct}."
    if text is None:
        return None
    return (
        f"the policy's chat template leaves out messages of the role {role}. Write their text "
        "into a message of the role system or user."
    )


def _correct_role(role: str) -> str | None:
    if role in ROLES:
        return None
    return _OTHER_ROLES.get(role.lower()) or closest(role.lower(), ROLES, cutoff=0.8)


@lru_cache
def _shows_no_parts(template: str | None, role: str) -> bool:
    """Return whether a template that shows a role's text loses it from a list of parts."""
    if _MARK not in (_rendered(template, role, _MARK) or ""):
        return False
    text = _rendered(template, role, [{"type": "text", "text": _MARK}])
    # Printed as Python prints a list, it is not the prompt either.
    return text is None or _MARK not in text or "{'type'" in text


def _rendered(template: str | None, role: str, content: Any) -> str | None:
    """Return a conversation with such a message, as the policy reads it; None if unknown."""
    if not template:
        return None
    messages = [{"role": role, "content": content}]
    if role != "user":
        messages.append({"role": "user", "content": "Go."})
    try:
        # Imported here because the import takes a second or two.
        from transformers.utils.chat_template_utils import render_jinja_template

        # Typed as text, it is a tuple of texts and of spans.
        found: Any = render_jinja_template(
            [messages], chat_template=template, bos_token="", eos_token=""
        )
        (text,), _ = found
    except Exception:
        return None
    return str(text)
