"""Find the candidates in the text of a response."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

_TAG = re.compile(r"<(/?)candidate>")
_CLOSING_TAG = "</candidate>"
_ITEM = re.compile(r"^( {0,3})([0-9]{1,9})([.)])(?=\s|\Z)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a response.

    Attributes:
        text: The candidate, without surrounding white space; may be empty.
        start: Offset of its first character in the parsed text.
        end: Offset after its last character, so that `text == parsed[start:end]`.
        closed: False if the text ended before the candidate did. Only the last candidate of a
            response can be unclosed.
    """

    text: str
    start: int
    end: int
    closed: bool = True


def parse_candidates(
    text: str,
    *,
    format: str = "xml",
    max_candidates: int | None = None,
    ignore_thoughts: bool = True,
    truncated: bool = False,
) -> list[Candidate]:
    """Return the candidates in `text`, in order. Runs in time linear in the length of `text`.

    No rules are applied here: empty, equal, surplus and unclosed candidates are all returned.

    Format "xml", `<candidate>...</candidate>`:

    - A tag is exactly `<candidate>` or `</candidate>`: lower case, no spaces, no attributes.
      Anything else is text.
    - Candidates do not nest. An opening tag inside an open candidate starts a new one, and the
      earlier one is dropped: missing closing tags never add candidates.
    - A closing tag without an open candidate is ignored.
    - A candidate still open at the end of the text is unclosed and reaches to that end, less a
      closing tag that was cut in half.

    Format "numbered", `1. foo` or `1) foo`:

    - An item starts at the start of a line, after at most three spaces, with its number, `.` or
      `)`, and white space or the end of the line. Numbers run 1, 2, 3, ... without leading zeros;
      any other number is text, so `2001: A Space Odyssey`, `10 years` or `1.5` starts no item.
    - All items have the indentation and the punctuation of the first; other markers (an inner
      list) are text of the item they stand in.
    - An item goes on over further lines, up to the next item, or up to a blank line followed by a
      line not indented deeper than the list's numbers. Prose after such a blank line belongs to no
      item, and the next number still starts the next item.
    - A second `1.` of the same style ends the list; only the first list counts.
    - Nothing in the text tells whether the last item is whole. It is unclosed only if `truncated`
      is set and it reaches to the end of the text; before a thought that is cut off it is whole.

    Args:
        text: The decoded response.
        format: One of `FORMATS`.
        max_candidates: Keep the first so many; None keeps all.
        ignore_thoughts: Text up to the last `</think>`, and from a later `<think>` that is never
            closed, holds no candidates. Where the chat template opens the thought in the prompt,
            a response without `</think>` is all thought, which only the caller can know.
        truncated: The response was cut by its length limit. Only "numbered" needs to be told.

    Raises:
        ValueError: Unknown format, or `max_candidates` below 1.
    """
    if format not in _FINDERS:
        raise ValueError(f"unknown candidate format {format!r}: use one of {', '.join(FORMATS)}")
    if max_candidates is not None and max_candidates < 1:
        raise ValueError(f"max_candidates is {max_candidates}: use 1 or more, or None for no limit")
    begin, stop = _answer(text) if ignore_thoughts else (0, len(text))
    answer = text[begin:stop]
    truncated = truncated and stop == len(text)
    candidates = []
    for start, end, closed in islice(_FINDERS[format](answer, truncated), max_candidates):
        raw = answer[start:end]
        content = raw.strip()
        first = begin + start + raw.find(content)
        candidates.append(Candidate(content, first, first + len(content), closed))
    return candidates


def _answer(text: str) -> tuple[int, int]:
    """Offsets of the part of a response that is not thought."""
    thought_end = text.rfind("</think>")
    begin = 0 if thought_end < 0 else thought_end + len("</think>")
    unclosed_thought = text.find("<think>", begin)
    return begin, len(text) if unclosed_thought < 0 else unclosed_thought


def _find_tagged(text: str, truncated: bool) -> Iterator[tuple[int, int, bool]]:
    start = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            yield start, tag.start(), True
            start = None
    if start is not None:
        halves = (_CLOSING_TAG[:length] for length in range(len(_CLOSING_TAG) - 1, 0, -1))
        cut = next((len(half) for half in halves if text.endswith(half)), 0)
        yield start, len(text) - cut, False


def _find_numbered(text: str, truncated: bool) -> Iterator[tuple[int, int, bool]]:
    markers = list(_list_markers(text))
    if not markers:
        return
    # Up to the second "1." of the same style, or the end of the text.
    list_end = markers.pop().start() if len(markers) > 1 and markers[-1][2] == "1" else len(text)
    prose = re.compile(rf"\n[^\S\n]*\n(?= {{0,{len(markers[0][1])}}}\S)")
    item_ends = [marker.start() for marker in markers[1:]] + [list_end]
    for marker, item_end in zip(markers, item_ends, strict=True):
        ended_by = prose.search(text, marker.end(), item_end)
        end = ended_by.start() if ended_by else item_end
        yield marker.end(), end, not (truncated and end == len(text))


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


_FINDERS: dict[str, Callable[[str, bool], Iterator[tuple[int, int, bool]]]] = {
    "xml": _find_tagged,
    "numbered": _find_numbered,
}
FORMATS = tuple(_FINDERS)
