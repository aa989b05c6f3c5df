"""Format "json": an array of strings, or of objects with a string."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shape_grpo.candidates.formats.format import Format, Found, register_format

_OPENING = re.compile(r"[\[{]")
# An unclosed string reaches to the end of the text. Quotes inside a string are escaped, so that no
# other string begins there: a string that may not stand where it stands is not read many times.
_TOKEN = re.compile(
    r"""(?P<colon>\s*:)?[\s,]*(?:
        "(?P<string>[^"\\]*(?:\\.[^"\\]*)*)(?P<quote>"|\\?\Z)
        |(?P<opens>[\[{])
        |(?P<closes>[\]}])
        |-?[0-9][0-9.eE+-]*|true|false|null|NaN|-?Infinity
    )""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# The second kind is one character in two escapes.
_HALF_ESCAPE = re.compile(
    r"""(?<!\\)(?:\\\\)*(?P<half>
        \\(?:u[0-9a-fA-F]{0,3})?
        |\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?
    )\Z""",
    re.VERBOSE,
)


@register_format("json")
@dataclass(frozen=True)
class Json(Format):
    """``["...", "..."]``, or ``[{"text": "..."}, {"text": "..."}]`` with ``key: text``.

    - The array may stand in prose, in a code block, or within other arrays and objects. The first
      array that holds a candidate counts, and no other: ``[1]`` and ``[ ]`` hold none. An array
      directly followed by ``(`` is a Markdown link.
    - Items of other kinds (numbers, null, arrays, objects without the key) are no candidates.
    - If an object has the key twice, the last one counts.
    - Missing and surplus commas do not matter. At any other fault the array ends, and the items
      before the fault count.
    - A string without its closing quote is unclosed and reaches to the end of the answer, less an
      escape that was cut in half. With ``key``, the item of an object without its ``}`` is
      unclosed.
    - Strings may hold line breaks. An escape that JSON does not know stays as it is written.

    Attributes:
        key: Key of the string in each object; None for an array of strings.

    Raises:
        ValueError: ``key`` is no string, or empty.
    """

    key: str | None = None

    def __post_init__(self) -> None:
        if self.key is not None and not (isinstance(self.key, str) and self.key):
            raise ValueError(
                f"key={self.key!r}: must be the name of a key, as text for "
                '[{"text": "..."}], or null for an array of strings'
            )

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the items of the first array that holds any."""
        end = 0
        while opening := _OPENING.search(answer, end):
            value = _Value(answer, opening.start(), self.key)
            # Not from the character after the bracket: each would be read once per bracket.
            end = value.end
            for items in filter(None, value.arrays):
                yield from items
                return

    def read(self, raw: str) -> str:
        """Return the string without its escapes and without surrounding white space."""
        return _unescape(raw).strip()

    def write(self, candidates: Sequence[str]) -> str:
        """Return the candidates as an array."""
        items = candidates if self.key is None else [{self.key: text} for text in candidates]
        return json.dumps(list(items), ensure_ascii=False)


@dataclass(slots=True)
class _Object:
    """An object that is not yet closed: the key whose value comes next, and its candidate."""

    key: str | None = None
    item: Found | None = None


class _Value:
    """An array or an object in a text, read up to its end or its first fault.

    Attributes:
        arrays: Candidates of each array in it, the outermost first.
        end: Offset where reading ended.
    """

    def __init__(self, text: str, start: int, key: str | None) -> None:
        self.arrays: list[list[Found]] = []
        self.end = start
        self._key = key
        self._open: list[list[Found] | _Object] = []
        while (token := _TOKEN.match(text, self.end)) and self._take(token):
            self.end = token.end()
            if not self._open:
                if text.startswith("(", self.end):
                    self.arrays.clear()
                return
        while self._open:
            self._close(whole=False)

    def _take(self, token: re.Match[str]) -> bool:
        """Take the next token; return False if it may not stand here."""
        inner = self._open[-1] if self._open else None
        is_value = isinstance(inner, _Object) and inner.key is not None
        if is_value != bool(token["colon"]):
            return False
        if token["closes"]:
            if isinstance(inner, _Object) != (token["closes"] == "}"):
                return False
            self._close(whole=True)
            return True
        found = _string(token)
        if isinstance(inner, _Object) and inner.key is None:
            inner.key = None if found is None else _unescape(token["string"])
            return found is not None
        if isinstance(inner, _Object):
            if inner.key == self._key:
                inner.item = found
            inner.key = None
        elif inner is not None and found is not None and self._key is None:
            inner.append(found)
        if token["opens"]:
            self._begin(token["opens"])
        return True

    def _begin(self, bracket: str) -> None:
        if bracket == "{":
            self._open.append(_Object())
        else:
            self.arrays.append([])
            self._open.append(self.arrays[-1])

    def _close(self, *, whole: bool) -> None:
        closed = self._open.pop()
        outer = self._open[-1] if self._open else None
        if isinstance(closed, _Object) and closed.item and isinstance(outer, list):
            start, end, _ = closed.item
            outer.append((start, end, whole))


def _string(token: re.Match[str]) -> Found | None:
    """Return the offsets inside the quotes, if the token is a string."""
    if token["string"] is None:
        return None
    start, end = token.span("string")
    if token["quote"] == '"':
        return start, end, True
    half = _HALF_ESCAPE.search(token.string, start)
    return start, half.start("half") if half else end, False


def _unescape(raw: str) -> str:
    def character(escape: re.Match[str]) -> str:
        code, name = escape.groups()
        return chr(int(code, 16)) if code else _ESCAPED.get(name, name)

    text = _ESCAPE.sub(character, raw)
    # Joins the two halves of a character beyond U+FFFF; a half alone becomes U+FFFD.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
