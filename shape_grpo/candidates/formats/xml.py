"""Format "xml": each candidate between tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape, unescape

from shape_grpo.candidates.formats.format import Format, Found, register_format

_NAME = re.compile(r"[^\W\d][\w.:-]*")


@register_format("xml")
@dataclass(frozen=True)
class Xml(Format):
    """``<candidate>...</candidate>``.

    - A tag is exactly ``<candidate>`` or ``</candidate>``, in this case and without spaces, unless
      an option allows more. Anything else is text.
    - Candidates do not nest. An opening tag inside an open candidate starts a new one, and the
      earlier one is dropped: missing closing tags never add candidates.
    - A closing tag without an open candidate is ignored.
    - A candidate still open at the end of the answer is unclosed and reaches to that end, less a
      closing tag that was cut in half.

    Attributes:
        tag: Name in the tags.
        attributes: Whether an opening tag may have attributes: ``<candidate id="1">``.
        numbered: Whether tags may end in a number: ``<candidate1>...</candidate1>``.
        unescape: Whether entities are characters: ``Fast &amp; Furious`` is "Fast & Furious".
            Candidates that are code need False.

    Raises:
        ValueError: ``tag`` is no name.
    """

    tag: str = "candidate"
    attributes: bool = False
    numbered: bool = False
    unescape: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.tag, str) or not _NAME.fullmatch(self.tag):
            raise ValueError(
                f"tag={self.tag!r}: must be a name without brackets, as answer for <answer>"
            )

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the candidates between tags."""
        start = None
        for tag in self._tags.finditer(answer):
            if not tag["closes"]:
                start = tag.end()
            elif start is not None:
                yield start, tag.start(), True
                start = None
        if start is not None:
            yield start, max(start, self._end_of_text(answer)), False

    def read(self, raw: str) -> str:
        """Return the text between the tags, without surrounding white space."""
        return (unescape(raw) if self.unescape else raw).strip()

    def write(self, candidates: Sequence[str]) -> str:
        """Return the candidates in tags, one per line."""
        texts = map(escape, candidates) if self.unescape else candidates
        numbers = range(1, len(candidates) + 1) if self.numbered else [""] * len(candidates)
        return "\n".join(
            f"<{self.tag}{number}>{text}</{self.tag}{number}>"
            for number, text in zip(numbers, texts, strict=True)
        )

    @cached_property
    def _tags(self) -> re.Pattern[str]:
        number = "[0-9]*" if self.numbered else ""
        # Up to the next bracket, so that tags that never close are not read twice.
        attributes = r"(?:\s[^<>]*)?" if self.attributes else ""
        name = re.escape(self.tag) + number
        return re.compile(rf"<{name}{attributes}>|<(?P<closes>/){name}>")

    def _end_of_text(self, answer: str) -> int:
        """Return where the answer ends, or where the half of a closing tag at its end begins."""
        bracket = answer.rfind("<")
        half = answer[bracket:] if bracket >= 0 else ""
        if self.numbered and half.startswith(f"</{self.tag}"):
            half = half.rstrip("0123456789")
        return bracket if half and f"</{self.tag}".startswith(half) else len(answer)
