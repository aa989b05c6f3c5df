"""The one way to ask a reward function about candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shape_grpo.advantage import CandidateRecord, Reward
from shape_grpo.candidates import CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards.calls import RewardCalls, RewardTimeout
from shape_grpo.rewards.failures import Failure, FailureLog
from shape_grpo.rewards.function import read_identity, read_result

Arguments = Callable[[str, int, int], Mapping[str, Any]]
"""Returns a call's arguments for a candidate's text, its index and the number of candidates.

`shape_grpo.rewards.candidate_arguments` of a row is one.
"""

Details = Mapping[str, Any]
"""Dict that a reward function returned, with its ``score``."""


@dataclass(frozen=True)
class Scored:
    """The reward of one candidate, or its failure.

    Attributes:
        reward: The reward, or the failure of the call.
        details: Dict that the function returned; empty under the rule ``floor`` or after a failure.
    """

    reward: Reward | Failure
    details: Details = field(default_factory=dict)

    @property
    def identity(self) -> str | None:
        """Identity of the candidate: candidates of one response that share it are duplicates."""
        return read_identity(self.details)


def indices_to_score(found: CandidateSet) -> list[int]:
    """Return the indices in ``found.checked`` of the candidates that a function is asked about."""
    return [index for index, each in enumerate(found.checked) if each.rule == "score"]


def more_to_score(found: CandidateSet, scored: Mapping[int, Scored]) -> list[int]:
    """Return the indices of duplicates by text that may not be duplicates by identity."""
    has_identity = any(each.identity is not None for each in scored.values())
    return found.unlike_in_text() if has_identity else []


@dataclass(frozen=True)
class ScoredSet:
    """The candidates of a response with their rewards.

    Attributes:
        found: The candidates, with duplicates by identity.
        results: One result per candidate that counts.
    """

    found: CandidateSet = field(default_factory=CandidateSet)
    results: Sequence[Scored] = ()

    @classmethod
    def settle(cls, found: CandidateSet, scored: Mapping[int, Scored], floor: Reward) -> ScoredSet:
        """Apply the rule ``duplicate`` by the identities that the reward function returned.

        Args:
            found: The candidates, with duplicates by text.
            scored: Index in ``found.checked`` to the result.
            floor: Reward under the rule ``floor``.
        """
        found = found.with_identities({n: each.identity for n, each in scored.items()})
        return cls(
            found,
            [
                scored[index] if each.rule == "score" else Scored(floor)
                for index, each in enumerate(found.checked)
                if each.counts
            ],
        )

    @property
    def record(self) -> CandidateRecord:
        """The record of the response."""
        counts = self.found.problem_counts
        if fallbacks := sum(bool(each.details.get("fallback")) for each in self.results):
            counts["fallback"] = fallbacks
        return CandidateRecord.from_results(
            self.found, [each.reward for each in self.results], counts
        )


class RewardFunction:
    """A user's reward function, asked about one candidate per call.

    Args:
        function: verl's ``compute_score``, sync or async.
        config: Which rewards are allowed, the reward under the rule ``floor``, and the timeout.
        keywords: Further keywords of every call.
        log_failures: Whether the first failure of each kind is logged.
        threads: As for `RewardCalls`.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        config: ShapeGRPOConfig,
        keywords: Mapping[str, Any] | None = None,
        *,
        log_failures: bool = True,
        threads: int | None = None,
    ) -> None:
        self.config = config
        self.keywords = keywords or {}
        self.call = RewardCalls(function, config.reward_timeout, threads)
        self.failures = FailureLog(config.on_error if log_failures else None)

    async def score(self, text: str, arguments: Arguments, index: int, count: int) -> Scored:
        """Ask for the reward of the candidate ``text``.

        Args:
            text: The candidate.
            arguments: Returns the call's arguments for it, without ``keywords``.
            index: Its index in the response.
            count: Number of candidates in the response.
        """
        try:
            result = await self.call(**{**arguments(text, index, count), **self.keywords})
            return Scored(*read_result(result, text, self.config))
        except Exception as error:
            if isinstance(error, RewardTimeout):
                error.add_note(f"The candidate was {text[:200]!r}.")
            return Scored(self.failures.failure(error, self.call.function))

    async def score_set(self, found: CandidateSet, arguments: Arguments) -> ScoredSet:
        """Score the candidates of a response, concurrently.

        Where the function returns an ``identity``, the rule ``duplicate`` goes by it.

        Args:
            found: The candidates.
            arguments: Returns the arguments of each candidate's call, without ``keywords``.
        """
        scored = await self._score_some(found, indices_to_score(found), arguments)
        scored |= await self._score_some(found, more_to_score(found, scored), arguments)
        return ScoredSet.settle(found, scored, self.config.floor)

    async def _score_some(
        self, found: CandidateSet, indices: Sequence[int], arguments: Arguments
    ) -> dict[int, Scored]:
        """Score the candidates at these indices of ``found.checked``."""
        scored = await asyncio.gather(
            *(
                self.score(found.checked[index].candidate.text, arguments, *found.place(index))
                for index in indices
            )
        )
        return dict(zip(indices, scored, strict=True))
