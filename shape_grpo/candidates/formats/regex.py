"""Format "regex": candidates are what a regular expression finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import regex

from shape_grpo.candidates.formats.examples import check_example, write_examples
from shape_grpo.candidates.formats.format import Format, Found, register_format

_MOST_SECONDS = 3600


@register_format("regex")
@dataclass(frozen=True)
class Regex(Format):
    r"""The group of each match of a pattern: ``pattern: '(?m)^- (.+)$'``.

    - The pattern has exactly one group, which is the candidate. Others are written ``(?:...)``.
    - A match in which the group takes no part holds no candidate, and neither does one whose group
      begins before the end of the candidate before it.
    - Nothing in the text tells whether the last candidate is whole. It is unclosed only if the
      answer was cut off and the match reaches to its end.
    - A pattern may take time quadratic or worse in the length of the answer, which is why there is
      a time limit. An answer that exceeds it raises a TimeoutError.

    Attributes:
        pattern: Regular expression of the module ``regex`` (https://pypi.org/project/regex).
            Flags stand in front: ``(?i)`` ignores case, ``(?m)`` lets ``^`` and ``$`` match at
            line ends, ``(?s)`` lets ``.`` match line breaks.
        seconds: Time limit for one answer, in seconds.
        example: One candidate as an answer has it, with ``{candidate}`` in its place:
            ``"- {candidate}\n"``. Needed only to write candidates.

    Raises:
        ValueError: ``pattern`` is no pattern or has not exactly one group, ``seconds`` is not
            above 0, or the pattern does not find the candidates of ``example``.
    """

    pattern: str
    seconds: float = 1.0
    example: str | None = None

    def __post_init__(self) -> None:
        try:
            groups = self._compiled.groups
        except (regex.error, TypeError, ValueError) as error:
            raise ValueError(
                f"pattern={self.pattern!r}: must be a regular expression ({error})"
            ) from None
        if groups != 1:
            raise ValueError(
                f"pattern={self.pattern!r}: must have one group, the candidate, and it has "
                f"{groups}. Write ( ) around the candidate, and (?: ) for all other groups"
            )
        is_number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not is_number or not 0 < self.seconds <= _MOST_SECONDS:
            raise ValueError(
                f"seconds={self.seconds!r}: must be a number above 0 and up to {_MOST_SECONDS}"
            )
        check_example(self, self.example)

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the group of each match.

        Raises:
            TimeoutError: It took longer than ``seconds``.
        """
        try:
            # All at once, as the time limit includes what the caller does between two matches.
            matches = list(self._compiled.finditer(answer, timeout=self.seconds))
        except TimeoutError:
            raise TimeoutError(
                f"format_options.pattern={self.pattern!r} took longer than "
                f"format_options.seconds={self.seconds} for an answer of {len(answer):,} "
                "characters. Simplify the pattern (no repeats within repeats), or raise the limit"
            ) from None
        last_end = 0
        for match in matches:
            start, end = match.span(1)
            if start >= last_end:
                yield start, end, not (cut and match.end() == len(answer))
                last_end = end

    def write(self, candidates: Sequence[str]) -> str | None:
        """Return the candidates as the example has them; None without an example."""
        return write_examples(self.example, candidates)

    def tags(self) -> str:
        """Return the pattern without its backslashes, and the example."""
        return self.pattern.replace("\\", "") + (self.example or "")

    @cached_property
    def _compiled(self) -> regex.Pattern[str]:
        return regex.compile(self.pattern)
