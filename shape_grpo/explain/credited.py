"""One response with the credit of its candidates: the record behind every view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shape_grpo.advantage import Reward

LONGEST = 24
"""Characters of a vector that `format_reward` writes."""


@dataclass(frozen=True)
class Segment:
    """Part of a response's text, shown in one colour: a token, a candidate, or text between them.

    Attributes:
        text: The text.
        candidate: Index of the candidate that it belongs to; None for shared tokens.
        ends: Whether the candidate ends with it.
        edge: Whether it is no text of the candidate, but in a token with some: the ``>`` of a tag
            and the first letters may be one token.
        masked: Whether a tool or a user wrote it: its tokens are not trained on.
    """

    text: str
    candidate: int | None = None
    ends: bool = False
    edge: bool = False
    masked: bool = False


def candidate_segments(
    text: str, tokens: tuple[int, int], own: tuple[int, int], number: int, *, ends: bool = True
) -> list[Segment]:
    """Return the segments of tokens of a candidate: its own text, and what its tokens hold beside.

    Args:
        text: The response.
        tokens: Characters (start, end) that the tokens carry.
        own: Characters (start, end) of the candidate.
        number: Its index.
        ends: Whether the candidate ends with these tokens.
    """
    start, end = tokens
    left = min(max(start, own[0]), end)
    right = max(min(end, own[1]), left)
    parts = [(start, left, True), (left, right, False), (right, end, True)]
    filled = [(text[first:last], edge) for first, last, edge in parts if first < last]
    return [
        Segment(part, number, ends and place == len(filled), edge)
        for place, (part, edge) in enumerate(filled, 1)
    ]


@dataclass(frozen=True)
class CreditedCandidate:
    """A candidate and its credit; None where a number is unknown or does not apply.

    Attributes:
        text: The candidate.
        length: Length in tokens, or in characters where there is no tokenizer.
        reward: Its reward.
        rule: Problem and rule, such as "duplicate: floor"; empty for an ordinary candidate.
        counts: Whether it belongs to the set.
        best_for: Number of components at which a vector is the best of its set.
        share: Its share of the set's reward.
        weight: Credit weight under ``reweight``.
        advantages: Name of a view to the advantage of its tokens.
    """

    text: str
    length: int
    reward: Reward | None = None
    rule: str = ""
    counts: bool = True
    best_for: int | None = None
    share: float | None = None
    weight: float | None = None
    advantages: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def is_paid(self) -> bool:
        """Whether its tokens get its own advantage."""
        return self.counts and self.reward is not None


@dataclass(frozen=True)
class CreditedResponse:
    """A response and its credit.

    Attributes:
        name: Name in what is printed.
        segments: Its text, in order.
        score: The set's reward; NaN where no candidate could be scored.
        candidates: Its candidates, in order.
        shared: Name of a view to the advantage of the tokens outside every candidate; None where it
            is unknown.
        length: Length in tokens or characters.
        unit: ``tokens`` or ``chars``.
        note: Reason why the text is not coloured; empty where it is.
    """

    name: str
    segments: Sequence[Segment]
    score: float
    candidates: Sequence[CreditedCandidate]
    shared: Mapping[str, float | None]
    length: int = 0
    unit: str = "tokens"
    note: str = ""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(segment.text for segment in self.segments)

    def owner(self, segment: Segment) -> CreditedCandidate | None:
        """Return the candidate whose advantage a segment's tokens get; None for shared tokens.

        A candidate without a reward owns no tokens: they are shared tokens of the response.
        """
        if segment.candidate is None or not self.candidates[segment.candidate].is_paid:
            return None
        return self.candidates[segment.candidate]

    def advantage(self, view: str, segment: Segment) -> float:
        """Return the advantage of a segment's tokens under a view; 0 for masked ones."""
        if segment.masked:
            return 0.0
        owner = self.owner(segment)
        value = self.shared[view] if owner is None else owner.advantages[view]
        # Without the sign of a zero.
        return (value or 0.0) + 0.0


def format_reward(reward: Reward | None) -> str:
    """Write a reward in short; vectors as ``1,0,1``, long ones by their first numbers."""
    if reward is None:
        return "failed"
    if isinstance(reward, float | int):
        return f"{reward:.4g}"
    written = ",".join(f"{value:.4g}" for value in reward)
    if len(written) > LONGEST:
        written = written[:LONGEST].rpartition(",")[0] + ",\N{HORIZONTAL ELLIPSIS}"
    return written or "none"
