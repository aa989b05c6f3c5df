"""Format "numbered": a numbered list."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shape_grpo.candidates.formats.fences import code_blocks
from shape_grpo.candidates.formats.format import Format, Found, register_format

_ITEM = re.compile(r"^( {0,3})([0-9]{1,9})([.)])(?=\s|\Z)", re.MULTILINE)


@register_format("numbered")
@dataclass(frozen=True)
class Numbered(Format):
    """``1. foo`` or ``1) foo``.

    - An item starts at the start of a line, after at most three spaces, with its number, ``.`` or
      ``)``, and white space or the end of the line. Numbers run 1, 2, 3, ... without leading zeros;
      any other number is text, so ``2001: A Space Odyssey``, ``10 years`` or ``1.5`` starts no
      item.
    - All items have the indentation and the punctuation of the first; other markers (an inner
      list) are text of the item they stand in.
    - An item goes on over further lines, up to the next item, or up to a blank line followed by a
      line not indented deeper than the list's numbers. Prose after such a blank line belongs to no
      item, and the next number still starts the next item.
    - A second ``1.`` of the same style ends the list; only the first list counts.
    - A list in a code block ends with the block. In a list outside of code blocks, the markers and
      blank lines of a block that is closed are text of the item that it stands in.
    - Nothing in the text tells whether the last item is whole. It is unclosed only if the answer
      was cut off and the item reaches to its end.
    """

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the items of the first list."""
        blocks = _Blocks(answer)
        markers = list(_list_markers(answer, blocks))
        if not markers:
            return
        own_block = blocks.around(markers[0].start())
        block_end = blocks.end_around(markers[0].start())
        # Up to the second "1." of the same style, the end of the code block, or of the answer.
        is_second_list = len(markers) > 1 and markers[-1][2] == "1"
        list_end = markers.pop().start() if is_second_list else block_end
        prose = re.compile(rf"\n[^\S\n]*\n(?= {{0,{len(markers[0][1])}}}\S)")
        item_ends = [marker.start() for marker in markers[1:]] + [list_end]
        for marker, item_end in zip(markers, item_ends, strict=True):
            blanks = prose.finditer(answer, marker.end(), item_end)
            ends = (b.start() for b in blanks if blocks.near(b.start() + 1) == own_block)
            end = next(ends, item_end)
            yield marker.end(), end, not (cut and end == len(answer))

    def write(self, candidates: Sequence[str]) -> str:
        """Return the candidates as a list."""
        return "\n".join(f"{number}. {text}" for number, text in enumerate(candidates, 1))


class _Blocks:
    """The code blocks of a text. One that is not closed counts for a list that begins in it."""

    def __init__(self, text: str) -> None:
        found = list(code_blocks(text))
        self._blocks = [block for block in found if block.closed]
        self._last = found[-1].content if found else (len(text), len(text))
        self._length = len(text)
        self._starts = [block.start for block in self._blocks]

    def near(self, place: int) -> int | None:
        """Return the number of the block that an offset is in, its fences included, or None."""
        number = bisect_right(self._starts, place) - 1
        return number if number >= 0 and place < self._blocks[number].end else None

    def around(self, place: int) -> int | None:
        """Return the number of the block whose content an offset is in, or None."""
        number = self.near(place)
        if number is None:
            return None
        start, end = self._blocks[number].content
        return number if start <= place < end else None

    def end_around(self, place: int) -> int:
        """Return the end of the content of the block around an offset; of the text without one."""
        number = self.around(place)
        if number is not None:
            return self._blocks[number].content[1]
        return self._last[1] if self._last[0] <= place < self._last[1] else self._length


def _list_markers(text: str, blocks: _Blocks) -> Iterator[re.Match[str]]:
    """Markers 1, 2, 3, ... of the first list, and the 1 of a second list where there is one.

    All stand in the code block of the first, or outside of any.
    """
    first: re.Match[str] | None = None
    expected = 1
    for marker in _ITEM.finditer(text):
        if first is not None and (
            (marker[1], marker[3]) != (first[1], first[3])
            or blocks.around(marker.start()) != blocks.around(first.start())
        ):
            continue
        if marker[2] == str(expected):
            first = first or marker
            expected += 1
            yield marker
        elif marker[2] == "1":
            yield marker
            return
