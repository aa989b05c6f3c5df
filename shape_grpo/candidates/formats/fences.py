"""Lines that open and close code blocks, which several formats meet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(
    r"^[^\S\n]*(?P<bullet>(?:[-*+]|[0-9]{1,9}[.)])[^\S\n]+)?"
    r"(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block, from its opening line to its closing line.

    Attributes:
        start: Offset of the opening line.
        end: Offset after the closing line; the text's end for an unclosed block.
        content: Offsets (start, end) of the lines between them, without the last line break.
        language: First word after the opening fence; may be empty.
        closed: Whether there is a closing line.
    """

    start: int
    end: int
    content: tuple[int, int]
    language: str
    closed: bool


def code_blocks(text: str) -> Iterator[Block]:
    """Find the code blocks of a text as CommonMark has them, in linear time.

    A block is opened by three backticks or tildes, or more of them, at the start of a line, and
    closed by a line of at least as many of the same. Other than in CommonMark the fences may be
    indented by any amount, as models indent code in lists. An opening fence may also follow the
    bullet or the number of a list's item on its line. The half of a closing fence at the end of the
    text is no content.
    """
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        marks, info = fence["marks"], fence["info"].strip()
        if opening is None:
            # Backticks later in the line make it code within a sentence, not a block.
            if not (marks[0] == "`" and "`" in info):
                opening = fence
        elif marks.startswith(opening["marks"]) and not info and not fence["bullet"]:
            yield _block(opening, fence.start() - 1, fence.end(), closed=True)
            opening = None
    if opening is not None:
        yield _block(opening, _before_half_fence(text, opening), len(text), closed=False)


def _before_half_fence(text: str, opening: re.Match[str]) -> int:
    """Return where the last line begins if it is the start of a closing fence; else the end."""
    line_start = text.rfind("\n") + 1
    last_line = text[line_start:].strip()
    is_half = last_line and not last_line.strip(opening["marks"][0])
    return line_start - 1 if is_half else len(text)


def _block(opening: re.Match[str], content_end: int, end: int, *, closed: bool) -> Block:
    content_end = max(content_end, opening.end())
    content_start = min(opening.end() + 1, content_end)
    language = (opening["info"].split() or [""])[0]
    return Block(opening.start(), end, (content_start, content_end), language, closed)
