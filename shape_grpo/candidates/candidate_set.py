"""The candidates of a response, with the rule that applies to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from shape_grpo.candidates.candidate import Candidate
from shape_grpo.candidates.comparing import comparable_text
from shape_grpo.candidates.rules import CandidateRules


@dataclass(frozen=True, slots=True)
class CheckedCandidate:
    """A candidate as it is written, and the rule that applies to it.

    Attributes:
        candidate: The candidate as it is written.
        problem: ``surplus``, ``truncated``, ``empty`` or ``duplicate``; None without a problem.
        rule: One of `shape_grpo.candidates.RULES`.
        span: Its tokens (start, end) in the response, end exclusive.
        name: Candidates of the same name are equal.
    """

    candidate: Candidate
    problem: str | None
    rule: str
    span: tuple[int, int]
    name: str

    @property
    def counts(self) -> bool:
        """Whether it belongs to the set."""
        return self.rule != "drop"


@dataclass(frozen=True)
class CandidateSet:
    """The candidates of a response. K of them count, the others are dropped.

    Attributes:
        checked: All of them, in their order.
        rules: The rules that were applied.
    """

    checked: Sequence[CheckedCandidate] = ()
    rules: CandidateRules = field(default_factory=CandidateRules)

    @classmethod
    def from_candidates(
        cls,
        candidates: Sequence[Candidate],
        spans: Sequence[tuple[int, int]],
        rules: CandidateRules,
    ) -> CandidateSet:
        """Apply the rules to the candidates of a response, of which ``spans`` are the tokens."""
        names = [comparable_text(candidate.text) for candidate in candidates]
        return cls(
            [
                CheckedCandidate(candidate, problem, rule, span, name)
                for candidate, span, name, (problem, rule) in zip(
                    candidates, spans, names, rules.apply(candidates, names), strict=True
                )
            ],
            rules,
        )

    @cached_property
    def kept(self) -> list[CheckedCandidate]:
        """The K candidates that count."""
        return [each for each in self.checked if each.counts]

    @property
    def candidates(self) -> list[Candidate]:
        """The K candidates that count, as they are written."""
        return [each.candidate for each in self.kept]

    @property
    def texts(self) -> list[str | None]:
        """Texts (K,) to be scored; None for a candidate under the rule ``floor``."""
        return [each.candidate.text if each.rule == "score" else None for each in self.kept]

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Tokens (start, end) of the K candidates."""
        return [each.span for each in self.kept]

    @property
    def problem_counts(self) -> Counter[str]:
        """Number of candidates that were surplus, truncated, empty or duplicate, dropped ones
        included; a problem that did not occur has no key.
        """
        return Counter(each.problem for each in self.checked if each.problem is not None)

    @property
    def num_distinct(self) -> int:
        """Number of different candidates among those to be scored."""
        return len({each.name for each in self.kept if each.rule == "score"})

    def place(self, index: int) -> tuple[int, int]:
        """Return the place of a candidate of ``checked`` among those that count, and their number.

        Reward functions are told both.
        """
        return sum(each.counts for each in self.checked[:index]), len(self.kept)

    def texts_at(self, indices: Iterable[int]) -> list[str]:
        """Return the texts of the candidates at these indices of ``checked``."""
        return [self.checked[index].candidate.text for index in indices]

    def unlike_in_text(self) -> list[int]:
        """Return the indices in ``checked`` of unscored duplicates that differ in their letters.

        They differ from every earlier candidate that is scored in case or white space, so that they
        may have another identity.
        """
        seen: set[str] = set()
        found = []
        for index, each in enumerate(self.checked):
            is_scored = each.rule == "score"
            if each.problem == "duplicate" and not is_scored and each.candidate.text not in seen:
                found.append(index)
                is_scored = True
            if is_scored:
                seen.add(each.candidate.text)
        return found

    def with_identities(self, identities: Mapping[int, str | None]) -> CandidateSet:
        """Apply the rule ``duplicate`` by identity, where there is one, instead of by text.

        Args:
            identities: Index in ``checked`` to the identity that the reward function returned; None
                if it returned none. Candidates of the same text have the same one.
        """
        by_text = {
            self.checked[index].candidate.text: identity
            for index, identity in identities.items()
            if identity is not None
        }
        checked: list[CheckedCandidate] = []
        # Text, and identity, of each candidate that counts to its name.
        names: dict[str, str] = {}
        kept = 0
        for each in self.checked:
            identity = by_text.get(each.candidate.text)
            # No text has such a name: names of texts are in lower case.
            key = each.name if identity is None else f"Identity {identity}"
            name = names.get(key, key)
            each = self._decide(each, kept, is_duplicate=key in names)
            if each.counts:
                names.setdefault(each.name, name)
                names.setdefault(key, name)
                kept += 1
            checked.append(replace(each, name=name))
        return replace(self, checked=checked)

    def _decide(self, each: CheckedCandidate, kept: int, *, is_duplicate: bool) -> CheckedCandidate:
        if kept >= self.rules.most:
            return replace(each, problem="surplus", rule="drop")
        if each.problem not in (None, "duplicate"):
            return each
        if is_duplicate:
            return replace(each, problem="duplicate", rule=self.rules.duplicate)
        if kept >= self.rules.allowed:
            return replace(each, problem="surplus", rule=self.rules.surplus)
        return replace(each, problem=None, rule="score")
