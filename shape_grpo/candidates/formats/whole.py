"""Format "whole": the answer is one candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shape_grpo.candidates.formats.format import Format, Found, register_format


@register_format("whole")
@dataclass(frozen=True)
class Whole(Format):
    """The whole answer, without thoughts: for sets of rollouts (``shape_grpo_rollouts``).

    An answer that was cut off is unclosed: the rule ``truncated`` decides about it.
    """

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the answer."""
        yield 0, len(answer), not cut

    def write(self, candidates: Sequence[str]) -> str | None:
        """Return the candidate; None if there are several."""
        return candidates[0] if len(candidates) == 1 else None
