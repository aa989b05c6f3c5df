"""The one way to ask a reward function about candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shape_grpo.advantage import CandidateRecord, Reward
from shape_grpo.candidates import CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards.calls import RewardCalls, RewardTimeout
from shape_grpo.rewards.failures import Failure, FailureLog
from shape_grpo.rewards.function import read_result

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

    async def score_set(
        self, found: CandidateSet, arguments: Arguments
    ) -> tuple[CandidateRecord, list[Scored]]:
        """Score the candidates of a response, concurrently.

        Args:
            found: The candidates.
            arguments: Returns the arguments of each candidate's call, without ``keywords``.

        Returns:
            The record of the response, and one `Scored` per candidate.
        """

        async def score(index: int, text: str | None) -> Scored:
            if text is None:
                return Scored(self.config.floor)
            return await self.score(text, arguments, index, len(found.texts))

        scored = await asyncio.gather(*(score(*numbered) for numbered in enumerate(found.texts)))
        counts = found.problem_counts.copy()
        if fallbacks := sum(bool(each.details.get("fallback")) for each in scored):
            counts["fallback"] = fallbacks
        record = CandidateRecord.from_results(found, [each.reward for each in scored], counts)
        return record, scored
