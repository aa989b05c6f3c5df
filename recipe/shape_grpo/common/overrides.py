"""Hydra overrides, ``KEY=VALUE``, made from paths and other text."""

import re

from hydra.core.override_parser.types import Quote, QuotedString

_PLAIN = re.compile(r"[\w.-]*/[\w./-]*", flags=re.ASCII)
"""Paths that Hydra reads as text without quotes; without a slash, it may be a number or null."""


def override(key: str, value: object) -> str:
    """Return the override that sets ``key`` to this text, whatever its characters.

    Hydra's grammar has a meaning for spaces, commas, brackets and ``=``, and knows no letter beyond
    ASCII outside of quotes. OmegaConf reads ``${`` as an interpolation.
    """
    return f"{key}={quoted(str(value))}"


def quoted(text: str) -> str:
    """Return text as a value of Hydra's grammar, or as an element of a list."""
    if _PLAIN.fullmatch(text):
        return text
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    return QuotedString(escaped, Quote.single).with_quotes()


def key_of(text: str) -> str:
    """Return the key that an override sets, adds or deletes."""
    return text.partition("=")[0].lstrip("+~")


def is_override(text: str) -> bool:
    """Return whether a word of a command line can only be an override, and no path."""
    return re.match(r"[+~]|[\w.]+=", text) is not None
