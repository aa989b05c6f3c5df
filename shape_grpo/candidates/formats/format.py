"""Base class of formats of candidates, and the registry of formats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shape_grpo.registry import Registry, build

Found = tuple[int, int, bool]
"""Offsets (start, end) of a candidate's raw text, and whether the candidate is whole."""


class Format(ABC):
    """How candidates are written in an answer. Options of a format are its dataclass fields.

    A format says where candidates are. Rules for empty, equal, surplus and unclosed candidates are
    applied later (`shape_grpo.candidates.CandidateRules`).
    """

    @abstractmethod
    def find(self, answer: str, *, cut: bool) -> Iterator[Found]:
        """Find the candidates of an answer, in order and without overlap.

        Must take time linear in the length of ``answer``: a policy in training writes any text.

        Args:
            answer: The answer, without thoughts. Special tokens stand in it as they are written.
            cut: Whether the answer's end was cut off by the length limit.

        Yields:
            ``(start, end, closed)``: offsets of the raw text of a candidate, and False for a last
            candidate that the end of the answer cut off.
        """

    def read(self, raw: str) -> str:
        """Return the candidate that is written as ``raw``, which holds no special tokens."""
        return raw.strip()

    def write(self, candidates: Sequence[str]) -> str | None:
        """Return an answer that holds ``candidates``; None if this format cannot write one.

        The dry run of a training writes such an answer and reads it back.
        """
        return None

    def tags(self) -> str:
        """Return text that holds the marks around candidates, which may be special tokens.

        Other special tokens at the end of an answer end the model's turn, and are cut off.
        """
        return self.write(["x"]) or ""


FORMATS: Registry[type[Format]] = Registry("candidate format")
"""Name to format: the values of ``format``."""

register_format = FORMATS.register
"""Decorator of a `Format` class that makes it available as ``format=NAME``."""


def make_format(name: str, options: Mapping[str, Any] | None = None) -> Format:
    """Return the format registered as ``name``.

    Raises:
        ValueError: The name is unknown, or an option is unknown, missing or not allowed.
    """
    return build(FORMATS, name, options or {})
