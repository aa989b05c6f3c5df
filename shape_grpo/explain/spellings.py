"""Places of a candidate in a text, where it may be written with escapes."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from html.entities import html5

_ENTITIES: dict[str, list[str]] = {}
"""Character to its named entities, without the ``&``; those with a semicolon stand first."""
for _name in sorted(html5, key=len, reverse=True):
    _ENTITIES.setdefault(html5[_name], []).append(_name)


def find_written(
    text: str, candidate: str, start: int = 0, end: int | None = None
) -> list[tuple[int, int]]:
    """Return the places (start, end) where a candidate is written, in order.

    A candidate is what its format has read: in the text its characters may be escaped (``json``)
    or entities (``xml`` with ``unescape``), and its lines indented deeper (``fenced``). Escapes of
    letters and digits of ASCII, which nobody writes, are not looked for.

    Args:
        text: The text.
        candidate: The candidate as the reward function gets it.
        start: Offset to search from.
        end: Offset to search to; None: the end of the text.
    """
    limit = len(text) if end is None else end
    places: dict[int, int] = {}
    for pattern in _patterns(candidate):
        for match in pattern.finditer(text, start, limit):
            places[match.start()] = max(match.end(), places.get(match.start(), 0))
    return sorted(places.items())


@lru_cache(1024)
def _patterns(candidate: str) -> list[re.Pattern[str]]:
    spellings = (_plain, _in_json, _in_xml)
    patterns = {"".join(map(spelling, candidate)) for spelling in spellings}
    return [re.compile(pattern) for pattern in patterns]


def _plain(character: str) -> str:
    return r"\n[ \t]*" if character == "\n" else re.escape(character)


@lru_cache(1024)
def _in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    code = "".join(rf"\\u(?i:{units[at : at + 4]})" for at in range(0, len(units), 4))
    short = "\\/" if character == "/" else json.dumps(character, ensure_ascii=False)[1:-1]
    return _either(character, code, re.escape(short))


@lru_cache(1024)
def _in_xml(character: str) -> str:
    names = (re.escape(f"&{name}") for name in _ENTITIES.get(character, ()))
    code = ord(character)
    return _either(character, *names, f"&#(?:0*{code}|[xX]0*(?i:{code:x}));?")


def _either(character: str, *escapes: str) -> str:
    if character == " " or (character.isascii() and character.isalnum()):
        return re.escape(character)
    # Like a reader, it takes an escape where there is one. If it tried the bare character as well,
    # a run of backslashes would take exponential time.
    return f"(?>{'|'.join([*escapes, re.escape(character)])})"
