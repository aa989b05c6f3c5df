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
        start: Offset of its first character in the response's text.
        end: Offset after its last character.
        closed: False if the text ended before the candidate did. Only the last candidate of a turn
            can be unclosed.
    """

    text: str
    start: int
    end: int
    closed: bool = True


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
        for first, stop in self.special[self._count_before(start) :]:
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
        words_end = end
        for first, stop in reversed(self.special[: self._count_before(end)]):
            if self.text[stop:end].strip() or self.text[first:stop] in kept:
                break
            words_end = end = first
        return words_end

    def plain_offset(self, offset: int) -> int:
        """Return the offset in the text without special tokens."""
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
