"""Rules: which candidates of a response count, and which of them are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shape_grpo.candidates.candidate import Candidate
from shape_grpo.candidates.formats import FORMATS, Format, make_format
from shape_grpo.candidates.thoughts import Thoughts
from shape_grpo.registry import check_choice

RULES = ("score", "floor", "drop")
"""Treatments of a candidate that has a problem.

- ``score``: it goes to the reward function like any other.
- ``floor``: it gets the reward ``floor_reward``, without a call of the reward function.
- ``drop``: it is no candidate; its tokens are shared tokens of the response.
"""


MOST_CANDIDATES = 1024
"""Maximum number of candidates of a response, if ``max_candidates`` does not allow more."""


@dataclass(frozen=True)
class CandidateRules:
    """Where candidates are, and the rule for each problem that a candidate can have.

    Of several problems of a candidate the first counts: surplus, truncated, empty, duplicate.

    A policy that repeats itself to the length limit writes hundreds of candidates in a response.
    Each costs a call of the reward function, and the credit of K candidates takes a time in
    proportion to K^2 where it is sampled (``softmax``, ``custom``). Hence both limits; a set of 64
    is far beyond what people compare, and its credit a matter of milliseconds under any utility.

    Attributes:
        format: How candidates are written; a name in `shape_grpo.candidates.FORMATS`.
        format_options: Options of the format (``tag`` of ``xml``, for instance).
        thoughts: Which text is thought and holds no candidates: ``auto`` (between the marks of
            known models, also if the prompt opens the thought), ``none``, or a pair of marks
            ``[open, close]``.
        turns: Turns of the policy whose candidates make the set: ``last``, or ``all``.
        max_candidates: Maximum number of candidates per response; further ones fall under
            ``surplus``. None: `MOST_CANDIDATES`.
        truncated: Rule for a last candidate that the response's end cut off.
        empty: Rule for a candidate without text.
        duplicate: Rule for a candidate that equals an earlier one that was not dropped: by the
            ``identity`` that the reward function returned for them, or else by text
            (`comparable_text`). Under ``score`` both take part, and by symmetry they share what one
            would get; a policy may then learn to repeat its best candidate.
        surplus: Rule for candidates beyond ``max_candidates``. Under ``score`` and ``floor`` they
            take part up to `MOST_CANDIDATES` in all; those beyond are dropped under any rule.

    Raises:
        ValueError: A value is not allowed; the message names the allowed ones.
    """

    format: str = "xml"
    format_options: dict[str, Any] = field(default_factory=dict)
    thoughts: Any = "auto"
    turns: str = "last"
    max_candidates: int | None = 64
    truncated: str = "drop"
    empty: str = "drop"
    duplicate: str = "floor"
    surplus: str = "drop"

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        try:
            _ = self.answer_format
        except ValueError as error:
            raise ValueError(f"format_options={self.format_options}: {error}") from error
        _ = self.known_thoughts
        check_choice("turns", self.turns, ("last", "all"))
        for problem in ("truncated", "empty", "duplicate", "surplus"):
            check_choice(problem, getattr(self, problem), RULES)
        if self.max_candidates is not None and self.max_candidates < 1:
            raise ValueError(
                f"max_candidates={self.max_candidates}: must be 1 or more, or null (None) for "
                f"{MOST_CANDIDATES}."
            )

    @cached_property
    def answer_format(self) -> Format:
        """The format that ``format`` and its options name."""
        return make_format(self.format, self.format_options)

    @cached_property
    def known_thoughts(self) -> Thoughts:
        """The marks that ``thoughts`` names."""
        return Thoughts.from_setting(self.thoughts)

    @property
    def allowed(self) -> int:
        """Number of candidates that a response may have before the rest is surplus."""
        return self.max_candidates or MOST_CANDIDATES

    @property
    def most(self) -> int:
        """Number of candidates that a response may have under any rule."""
        return max(self.allowed, MOST_CANDIDATES)

    def apply(
        self, candidates: Sequence[Candidate], names: Sequence[str]
    ) -> list[tuple[str | None, str]]:
        """Return the problem and the rule of each candidate; those of one name are equal.

        The problem is ``surplus``, ``truncated``, ``empty`` or ``duplicate``, or None.
        """
        decided: list[tuple[str | None, str]] = []
        kept = 0
        seen: set[str] = set()
        for candidate, name in zip(candidates, names, strict=True):
            problem: str | None = None
            if kept >= self.most:
                problem, rule = "surplus", "drop"
            elif kept >= self.allowed:
                problem, rule = "surplus", self.surplus
            elif not candidate.closed:
                problem, rule = "truncated", self.truncated
            elif not candidate.text:
                problem, rule = "empty", self.empty
            elif name in seen:
                problem, rule = "duplicate", self.duplicate
            else:
                rule = "score"
            # What was dropped is no candidate, which another could equal.
            if rule != "drop":
                seen.add(name)
                kept += 1
            decided.append((problem, rule))
        return decided
