"""Which of a response's candidates count, and which of those are to be scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shape_grpo.candidates.parsing import FORMATS, Candidate, parse_candidates
from shape_grpo.candidates.spans import Tokenizer, decode_response, token_spans
from shape_grpo.registry import check_choice

RULES = ("score", "floor", "drop")
"""What happens to a candidate that is not as it should be.

- ``score``: it goes to the reward function like any other.
- ``floor``: it gets a fixed reward, ``floor_reward``, without a call of the reward function.
- ``drop``: it is no candidate; its tokens are shared tokens of the response.
"""


MOST_CANDIDATES = 1024
"""Candidates of a response under any rules, if ``max_candidates`` does not allow more."""


@dataclass(frozen=True)
class CandidateRules:
    """How candidates are written, and the rule for each thing that can be wrong with one.

    Of several things wrong with a candidate the first counts: surplus, truncated, empty, duplicate.

    A policy that repeats itself to the length limit writes hundreds of candidates in a response.
    Each costs a call of the reward function, and the credit of K candidates takes a time in
    proportion to K^2 where it is sampled (``softmax``, ``custom``). Hence both limits; a set of 64
    is far beyond what people compare, and its credit a matter of milliseconds under any utility.

    Attributes:
        format: How candidates are written: ``xml`` or ``numbered``.
        max_candidates: Candidates a response may have; those beyond fall under ``surplus``. None:
            as many as `MOST_CANDIDATES`.
        ignore_thoughts: Whether candidates before ``</think>`` are none.
        truncated: Rule for a last candidate that the response's end cut off.
        empty: Rule for a candidate without text.
        duplicate: Rule for a candidate whose text equals an earlier one's, but for white space and
            case. Under ``score`` both take part, and symmetry makes them share what one would get.
        surplus: Rule for candidates beyond ``max_candidates``. Under ``score`` and ``floor`` they
            take part up to `MOST_CANDIDATES` in all; those beyond are dropped under any rule.

    Raises:
        ValueError: A value that is not allowed; the message names what is.
    """

    format: str = "xml"
    max_candidates: int | None = 64
    ignore_thoughts: bool = True
    truncated: str = "drop"
    empty: str = "drop"
    duplicate: str = "score"
    surplus: str = "drop"

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        for problem in ("truncated", "empty", "duplicate", "surplus"):
            check_choice(problem, getattr(self, problem), RULES)
        if self.max_candidates is not None and self.max_candidates < 1:
            raise ValueError(
                f"max_candidates={self.max_candidates}: must be 1 or more, or null (None) for "
                f"{MOST_CANDIDATES}."
            )

    @property
    def allowed(self) -> int:
        """Candidates that a response may have before the rest is surplus."""
        return self.max_candidates or MOST_CANDIDATES


@dataclass(frozen=True, slots=True)
class JudgedCandidate:
    """What is written as a candidate, and what the rules make of it.

    Attributes:
        candidate: What is written.
        problem: ``surplus``, ``truncated``, ``empty`` or ``duplicate``; None where it is as it
            should be.
        rule: One of `RULES`.
    """

    candidate: Candidate
    problem: str | None
    rule: str

    @property
    def counts(self) -> bool:
        """Whether it is one of the set."""
        return self.rule != "drop"


@dataclass(frozen=True)
class CandidateSet:
    """The K candidates of a response that count.

    Attributes:
        candidates: In their order.
        texts: What is to be scored; None for a candidate that gets the fixed reward.
        spans: ``(start, end)`` of each candidate's tokens, as `token_spans` finds them.
        handled: How many candidates were surplus, truncated, empty or duplicate, dropped ones
            included; a problem that did not occur has no key.
    """

    candidates: list[Candidate]
    texts: list[str | None]
    spans: list[tuple[int, int]]
    handled: Counter[str]

    @classmethod
    def from_judged(
        cls, judged: Sequence[JudgedCandidate], spans: list[tuple[int, int]]
    ) -> CandidateSet:
        """The set of those that count.

        Args:
            judged: All of a response, as `judge_candidates` returns them.
            spans: The tokens of those that count.
        """
        kept = [one for one in judged if one.counts]
        return cls(
            candidates=[one.candidate for one in kept],
            texts=[one.candidate.text if one.rule == "score" else None for one in kept],
            spans=spans,
            handled=Counter(one.problem for one in judged if one.problem is not None),
        )

    @property
    def num_distinct(self) -> int:
        """Different texts among those to be scored."""
        return len({_comparable(text) for text in self.texts if text is not None})


def judge_candidates(text: str, rules: CandidateRules, *, cut: bool) -> list[JudgedCandidate]:
    """All that is written as a candidate in a response's text, and what the rules make of it.

    Args:
        text: The response.
        rules: Which candidates count.
        cut: As `find_candidates`.
    """
    judged: list[JudgedCandidate] = []
    kept = 0
    seen: set[str] = set()
    for candidate in parse_candidates(
        text, format=rules.format, ignore_thoughts=rules.ignore_thoughts, truncated=cut
    ):
        name = _comparable(candidate.text)
        problem: str | None = None
        if kept >= max(rules.allowed, MOST_CANDIDATES):
            problem, rule = "surplus", "drop"
        elif kept >= rules.allowed:
            problem, rule = "surplus", rules.surplus
        elif not candidate.closed:
            problem, rule = "truncated", rules.truncated
        elif not candidate.text:
            problem, rule = "empty", rules.empty
        elif name in seen:
            problem, rule = "duplicate", rules.duplicate
        else:
            rule = "score"
        seen.add(name)
        judged.append(JudgedCandidate(candidate, problem, rule))
        kept += rule != "drop"
    return judged


def find_candidates(
    tokenizer: Tokenizer, response_ids: Sequence[int], rules: CandidateRules, *, cut: bool
) -> CandidateSet:
    """The candidates of a response under the rules.

    Args:
        tokenizer: A Hugging Face tokenizer.
        response_ids: Token ids of the response, as sampled.
        rules: Which candidates count.
        cut: Whether the response ended at its length limit. A candidate without its closing tag is
            truncated either way; the last item of a numbered list is only then.
    """
    judged = judge_candidates(decode_response(tokenizer, response_ids), rules, cut=cut)
    kept = [one.candidate for one in judged if one.counts]
    return CandidateSet.from_judged(judged, token_spans(tokenizer, response_ids, kept))


def _comparable(text: str) -> str:
    """The text by which candidates count as equal: white space and case do not matter."""
    return " ".join(text.casefold().split())
