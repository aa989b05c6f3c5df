"""Format "numbered": a numbered list."""

from __future__ import annotations

import re
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
    - A list in a code block ends with the block.
    - Nothing in the text tells whether the last item is whole. It is unclosed only if the answer
      was cut off and the item reaches to its end.
    """

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the items of the first list."""
        markers = list(_list_markers(answer))
        if not markers:
            return
        block_end = _end_of_block(answer, markers[0].start())
        markers = [marker for marker in markers if marker.start() < block_end]
        # Up to the second "1." of the same style, the end of the code block, or of the answer.
        is_second_list = len(markers) > 1 and markers[-1][2] == "1"
        list_end = markers.pop().start() if is_second_list else block_end
        prose = re.compile(rf"\n[^\S\n]*\n(?= {{0,{len(markers[0][1])}}}\S)")
        item_ends = [marker.start() for marker in markers[1:]] + [list_end]
        for marker, item_end in zip(markers, item_ends, strict=True):
            ended_by = prose.search(answer, marker.end(), item_end)
            end = ended_by.start() if ended_by else item_end
            yield marker.end(), end, not (cut and end == len(answer))

    def write(self, candidates: Sequence[str]) -> str:
        """Return the candidates as a list."""
        return "\n".join(f"{number}. {text}" for number, text in enumerate(candidates, 1))


def _list_markers(text: str) -> Iterator[re.Match[str]]:
    """Markers 1, 2, 3, ... of the first list, and the 1 of a second list where there is one."""
    style, expected = None, 1
    for marker in _ITEM.finditer(text):
        if style is not None and (marker[1], marker[3]) != style:
            continue
        if marker[2] == str(expected):
            style = marker[1], marker[3]
            expected += 1
            yield marker
        elif marker[2] == "1":
            yield marker
            return


def _end_of_block(text: str, place: int) -> int:
    """Return the end of the code block around ``place``; of the text, if there is none."""
    for block in code_blocks(text):
        start, end = block.content
        if start <= place < end:
            return end
        if block.start > place:
            break
    return len(text)
