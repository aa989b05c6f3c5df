"""The candidates of a response with their rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shape_grpo.advantage import CandidateRecord, Reward, stack_rewards
from shape_grpo.candidates import CandidateSet
from shape_grpo.config import LARGEST, ShapeGRPOConfig
from shape_grpo.credit import TextUtility, Utility, allocate, set_utility
from shape_grpo.rewards.failures import Failure, FailureLog
from shape_grpo.rewards.floor import Floor
from shape_grpo.rewards.function import further_numbers, read_identity

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

    def projected(self, utility: Utility, draw: str) -> Scored:
        """Return the result with a vector reward as credit is computed from it."""
        if not isinstance(self.reward, list):
            return self
        return Scored(utility.project(self.reward, draw).tolist(), self.details)


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
        shares: One share per candidate that counts, None after a failure; empty unless the utility
            reads texts.
        value: Utility of the set, if the utility reads texts.
    """

    found: CandidateSet = field(default_factory=CandidateSet)
    results: Sequence[Scored] = ()
    shares: Sequence[float | None] = ()
    value: float | None = None

    @classmethod
    def settle(
        cls,
        found: CandidateSet,
        scored: Mapping[int, Scored],
        config: ShapeGRPOConfig,
        failures: FailureLog,
        floor: Floor,
        draw: str = "",
    ) -> ScoredSet:
        """Apply the rule ``duplicate`` by the identities that the reward function returned, project
        vectors, and split a utility that reads texts.

        If such a utility fails, all candidates of the response have failed.

        Args:
            found: The candidates, with duplicates by text.
            scored: Index in ``found.checked`` to the result.
            config: Utility and allocator.
            failures: Log of failures.
            floor: Reward under the rule ``floor``; it is told the other rewards first.
            draw: As for `shape_grpo.credit.Utility.project`.
        """
        found = found.with_identities({n: each.identity for n, each in scored.items()})
        utility = config.method.utility
        own = {
            index: scored[index].projected(utility, draw)
            for index, each in enumerate(found.checked)
            if each.counts and each.rule == "score"
        }
        floor.see(each.reward for each in own.values() if not isinstance(each.reward, Failure))
        counting = (index for index, each in enumerate(found.checked) if each.counts)
        settled = cls(found, [own.get(index) or Scored(floor.reward) for index in counting])
        if not isinstance(utility, TextUtility):
            return settled
        texts = [candidate.text for candidate in found.candidates]
        known = [k for k, each in enumerate(settled.results) if not isinstance(each.reward, str)]
        try:
            return settled.with_shares(utility.bind([texts[k] for k in known]), known, config)
        except Exception as error:
            what = f"The utility {config.utility} failed on a response; its candidate"
            return settled.failed(failures.failure(error, type(utility).value, what=what))

    def with_shares(
        self, utility: Utility, players: Sequence[int], config: ShapeGRPOConfig
    ) -> ScoredSet:
        """Return the set with the shares of the candidates ``players`` of ``utility``.

        Any other candidate that has a reward adds it to the set, and its share is its reward.

        Raises:
            ValueError: A number of the result is above `LARGEST`.
            Exception: What the utility or the allocator raises.
        """
        shares: list[Any] = [
            None if isinstance(each.reward, str) else each.reward for each in self.results
        ]
        if all(share is None for share in shares):
            return self
        value = sum(share or 0.0 for k, share in enumerate(shares) if k not in players)
        if players:
            rewards = stack_rewards([[shares[k] for k in players]], vectors=utility.takes_vectors)
            split = allocate(rewards, utility=utility, allocator=config.method.allocator)
            value += set_utility(rewards, utility=utility).item()
            for k, share in zip(players, split[0].tolist(), strict=True):
                shares[k] = share
        if not all(abs(number) <= LARGEST for number in (value, *shares) if number is not None):
            raise ValueError(
                f"utility {config.utility} made a set worth {value:g}; a utility and its shares "
                f"must be from {-LARGEST:g} to {LARGEST:g}"
            )
        return ScoredSet(self.found, self.results, shares, value)

    def failed(self, failure: Failure) -> ScoredSet:
        """Return the set after a failure that leaves no candidate a share."""
        return ScoredSet(self.found, [Scored(failure)] * len(self.results))

    @property
    def record(self) -> CandidateRecord:
        """The record of the response."""
        counts = self.found.problem_counts
        if fallbacks := sum(bool(each.details.get("fallback")) for each in self.results):
            counts["fallback"] = fallbacks
        record = CandidateRecord.from_results(
            self.found, [each.reward for each in self.results], counts
        )
        record.shares, record.value = list(self.shares), self.value
        numbers = [further_numbers(each.details) for each in self.results]
        record.parts = {
            name: [each.get(name) for each in numbers]
            for name in dict.fromkeys(name for each in numbers for name in each)
        }
        return record
