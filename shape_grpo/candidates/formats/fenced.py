"""Format "fenced": each candidate in a Markdown code block."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shape_grpo.candidates.formats.fences import code_blocks
from shape_grpo.candidates.formats.format import Format, Found, register_format


@register_format("fenced")
@dataclass(frozen=True)
class Fenced(Format):
    """Code between a line of backticks or tildes, with or without a language, and another.

    - Blocks are those of `code_blocks`. Backticks within a line of prose are no block.
    - A candidate keeps the indentation of its first line; blank lines around it and white space at
      its end go.
    - If the closing fence is indented, as in a list, each line loses as much indentation.
    - A block without a closing fence is unclosed and reaches to the end of the answer, less a
      closing fence that was cut in half. It keeps all indentation.

    Attributes:
        language: Only blocks of this language count, or of one of these: ``[python, py]``. It is
            compared with the first word after the opening fence, without regard to case. None
            counts every block.

    Raises:
        ValueError: ``language`` is neither a word, nor a list of words, nor None.
    """

    language: Any = None

    def __post_init__(self) -> None:
        words = self._languages
        if self.language is not None and not (words and all(map(_is_word, words))):
            raise ValueError(
                f"language={self.language!r}: must be a word, as python, or a list of words, as "
                "[python, py], or null for blocks of any language"
            )

    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the code blocks of the language."""
        languages = {word.casefold() for word in self._languages}
        for block in code_blocks(answer):
            if languages and block.language.casefold() not in languages:
                continue
            start, end = block.content
            if block.closed:
                # Up to the closing fence itself: `read` needs its indentation.
                closing = answer[end : block.end]
                end += len(closing) - len(closing.lstrip())
            else:
                end = start + len(answer[start:end].rstrip())
            yield start, end, block.closed

    def read(self, raw: str) -> str:
        """Return the code, less the indentation of the closing fence, which ends ``raw``."""
        last_line = raw[raw.rfind("\n") + 1 :]
        margin = 0 if last_line.strip() else len(last_line)
        code = raw.rstrip()
        blank = len(code) - len(code.lstrip())
        code = code[code.rfind("\n", 0, blank) + 1 :]
        return re.sub(rf"(?m)^[^\S\n]{{1,{margin}}}", "", code) if margin else code

    def write(self, candidates: Sequence[str]) -> str:
        """Return the candidates in blocks whose fences are longer than any in them."""
        language = next(iter(self._languages), "")
        return "\n".join(_written(text, language) for text in candidates)

    @cached_property
    def _languages(self) -> list[Any]:
        if self.language is None:
            return []
        is_list = isinstance(self.language, Sequence) and not isinstance(self.language, str)
        return list(self.language) if is_list else [self.language]


def _written(code: str, language: str) -> str:
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.split() == [value]
