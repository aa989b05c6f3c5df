"""A candidate, and the text that candidates are found in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate of a response.

    Attributes:
        text: The candidate as the reward function gets it: without special tokens, escapes of its
            format, and surrounding white space. May be empty.
        start: Offset of its first character in the text of its turn.
        end: Offset after its last character.
        closed: False if the text ended before the candidate did. Only the last candidate of a turn
            can be unclosed.
        escaped: The candidate as it is written, if that differs: with the escapes of its format, or
            the indentation of its code block. Empty if it is ``text``.
    """

    text: str
    start: int
    end: int
    closed: bool = True
    escaped: str = ""

    @property
    def written(self) -> str:
        """The candidate as it is written, without special tokens."""
        return self.escaped or self.text


@dataclass(frozen=True)
class ResponseText:
    """Text of token ids, in which special tokens are written out.

    Attributes:
        text: The text. Tokens that begin, end or pad a sequence are left out.
        special: Offsets (start, end) of the special tokens in it, in order.
    """

    text: str
    special: Sequence[tuple[int, int]] = ()

    def without_special(self, start: int, end: int) -> str:
        """Return ``text[start:end]`` without special tokens."""
        kept, at = [], start
        # Not a slice of `special`, which would be copied once per candidate.
        for number in range(self._count_before(start), len(self.special)):
            first, stop = self.special[number]
            if first >= end:
                break
            kept.append(self.text[at:first])
            at = stop
        kept.append(self.text[min(at, end) : end])
        return "".join(kept)

    def end_of_words(self, end: int, kept: str) -> int:
        """Return ``end``, or where the special tokens begin that end the text up to there.

        Args:
            end: Offset in the text.
            kept: Special tokens that it contains stay.
        """
        for number in reversed(range(self._count_before(end))):
            first, stop = self.special[number]
            if self.text[stop:end].strip() or self.text[first:stop] in kept:
                break
            end = first
        return end

    def words(self, start: int, end: int) -> tuple[int, int]:
        """Return the offsets of a part of the text, less what surrounds its words.

        White space and special tokens do. Of a part without words, nothing remains at its start.
        """
        left, right = start, end
        for number in range(self._count_before(start), len(self.special) + 1):
            first, stop = self.special[number] if number < len(self.special) else (end, end)
            limit = min(max(first, left), end)
            if words := self.text[left:limit].lstrip():
                left = limit - len(words)
                break
            if limit == end:
                return start, start
            left = min(stop, end)
        for number in reversed(range(-1, min(self._count_before(end) + 1, len(self.special)))):
            first, stop = self.special[number] if number >= 0 else (left, left)
            limit = max(min(stop, right), left)
            if words := self.text[limit:right].rstrip():
                right = limit + len(words)
                break
            right = min(right, max(first, left))
        return left, right

    def plain_offset(self, offset: int) -> int:
        """Return the offset in the text without special tokens."""
        if not self.special:
            return offset
        before = self._count_before(offset)
        inside = offset - self.special[before][0] if self._is_inside(before, offset) else 0
        return offset - self._lengths[before] - inside

    def _is_inside(self, number: int, offset: int) -> bool:
        return number < len(self.special) and self.special[number][0] < offset

    def _count_before(self, offset: int) -> int:
        """Return the number of special tokens that end at ``offset`` or before."""
        return bisect_right(self._ends, offset)

    @cached_property
    def _ends(self) -> list[int]:
        return [end for _, end in self.special]

    @cached_property
    def _lengths(self) -> list[int]:
        return [0, *accumulate(end - start for start, end in self.special)]
