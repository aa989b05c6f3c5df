"""Rules: which candidates of a response count, and which of them are scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shape_grpo.candidates.parsing import FORMATS, Candidate, parse_candidates
from shape_grpo.candidates.spans import Tokenizer, decode_response, token_spans
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
    """Format of candidates, and the rule for each problem that a candidate can have.

    Of several problems of a candidate the first counts: surplus, truncated, empty, duplicate.

    A policy that repeats itself to the length limit writes hundreds of candidates in a response.
    Each costs a call of the reward function, and the credit of K candidates takes a time in
    proportion to K^2 where it is sampled (``softmax``, ``custom``). Hence both limits; a set of 64
    is far beyond what people compare, and its credit a matter of milliseconds under any utility.

    Attributes:
        format: How candidates are written: ``xml`` or ``numbered``.
        max_candidates: Maximum number of candidates per response; further ones fall under
            ``surplus``. None: `MOST_CANDIDATES`.
        ignore_thoughts: Whether text before ``</think>`` holds no candidates.
        truncated: Rule for a last candidate that the response's end cut off.
        empty: Rule for a candidate without text.
        duplicate: Rule for a candidate whose text equals an earlier one's, but for white space and
            case. Under ``score`` both take part, and by symmetry they share what one would get.
        surplus: Rule for candidates beyond ``max_candidates``. Under ``score`` and ``floor`` they
            take part up to `MOST_CANDIDATES` in all; those beyond are dropped under any rule.

    Raises:
        ValueError: A value is not allowed; the message names the allowed ones.
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
        """Number of candidates that a response may have before the rest is surplus."""
        return self.max_candidates or MOST_CANDIDATES


@dataclass(frozen=True, slots=True)
class CheckedCandidate:
    """A candidate as it is written, and the rule that applies to it.

    Attributes:
        candidate: The candidate as it is written.
        problem: ``surplus``, ``truncated``, ``empty`` or ``duplicate``; None without a problem.
        rule: One of `RULES`.
    """

    candidate: Candidate
    problem: str | None
    rule: str

    @property
    def counts(self) -> bool:
        """Whether it belongs to the set."""
        return self.rule != "drop"


@dataclass(frozen=True)
class CandidateSet:
    """The K candidates of a response that count.

    Attributes:
        candidates: The candidates, in their order.
        texts: Texts to be scored; None for a candidate under the rule ``floor``.
        spans: ``(start, end)`` of each candidate's tokens, as `token_spans` finds them.
        problem_counts: Number of candidates that were surplus, truncated, empty or duplicate,
            dropped ones included; a problem that did not occur has no key.
    """

    candidates: list[Candidate]
    texts: list[str | None]
    spans: list[tuple[int, int]]
    problem_counts: Counter[str]

    @classmethod
    def from_checked(
        cls, checked: Sequence[CheckedCandidate], spans: list[tuple[int, int]]
    ) -> CandidateSet:
        """Build the set of the candidates that count.

        Args:
            checked: All candidates of a response, from `check_candidates`.
            spans: Tokens of the candidates that count.
        """
        kept = [each for each in checked if each.counts]
        return cls(
            candidates=[each.candidate for each in kept],
            texts=[each.candidate.text if each.rule == "score" else None for each in kept],
            spans=spans,
            problem_counts=Counter(each.problem for each in checked if each.problem is not None),
        )

    @property
    def num_distinct(self) -> int:
        """Number of different texts among those to be scored."""
        return len({comparable_text(text) for text in self.texts if text is not None})


def check_candidates(text: str, rules: CandidateRules, *, cut: bool) -> list[CheckedCandidate]:
    """Find all candidates in a response's text, and the rule that applies to each.

    Args:
        text: The response.
        rules: Format, and which candidates count.
        cut: As for `find_candidates`.
    """
    checked: list[CheckedCandidate] = []
    kept = 0
    seen: set[str] = set()
    for candidate in parse_candidates(
        text, format=rules.format, ignore_thoughts=rules.ignore_thoughts, truncated=cut
    ):
        name = comparable_text(candidate.text)
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
        checked.append(CheckedCandidate(candidate, problem, rule))
        kept += rule != "drop"
    return checked


def find_candidates(
    tokenizer: Tokenizer, response_ids: Sequence[int], rules: CandidateRules, *, cut: bool
) -> CandidateSet:
    """Find the candidates of a response under the rules.

    Args:
        tokenizer: A Hugging Face tokenizer.
        response_ids: Token ids of the response, as sampled.
        rules: Format, and which candidates count.
        cut: Whether the response ended at its length limit. A candidate without its closing tag is
            truncated either way; the last item of a numbered list is only then.
    """
    checked = check_candidates(decode_response(tokenizer, response_ids), rules, cut=cut)
    kept = [each.candidate for each in checked if each.counts]
    return CandidateSet.from_checked(checked, token_spans(tokenizer, response_ids, kept))


def comparable_text(text: str) -> str:
    """Return the text by which candidates count as equal: white space and case do not matter."""
    return " ".join(text.casefold().split())
