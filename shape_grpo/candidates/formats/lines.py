"""Format "lines": one candidate per line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shape_grpo.candidates.formats.fences import code_blocks
from shape_grpo.candidates.formats.format import Format, Found, register_format

_LINE = re.compile(r"[^\n]+")


@register_format("lines")
@dataclass(frozen=True)
class Lines(Format):
    """Every line that is not blank, or every line that starts with ``marker``.

    - Lines that open or close a code block are no candidates; lines within it are.
    - Nothing in the text tells whether the last line is whole. It is unclosed only if the answer
      was cut off and the line reaches to its end.

    Attributes:
        marker: Only lines that start with it count, white space in front aside: ``"- "`` for a
            list with hyphens. It is no part of the candidate. None counts every line.

    Raises:
        ValueError: ``marker`` is no string, starts with white space, or has a line break.
    """

    marker: str | None = None

    def __post_init__(self) -> None:
        marker = self.marker
        if marker is None:
            return
        if not isinstance(marker, str) or not marker[:1].strip() or "\n" in marker:
            raise ValueError(
                f"marker={marker!r}: must be what each line starts with after white space, as "
                '"- " in quotes, or null for every line'
            )

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the lines."""
        fences = set(_fence_lines(answer))
        marker = self.marker or ""
        for line in _LINE.finditer(answer):
            text = line[0].lstrip()
            if text and text.startswith(marker) and line.start() not in fences:
                start = line.end() - len(text) + len(marker)
                yield start, line.end(), not (cut and line.end() == len(answer))

    def write(self, candidates: Sequence[str]) -> str | None:
        """Return one line per candidate; None if a candidate has several lines."""
        if any("\n" in text for text in candidates):
            return None
        return "\n".join(f"{self.marker or ''}{text}" for text in candidates)


def _fence_lines(text: str) -> Iterator[int]:
    """Offsets of the lines that open and close code blocks, also of half a closing line."""
    for block in code_blocks(text):
        yield block.start
        if block.content[1] < block.end:
            yield block.content[1] + 1
