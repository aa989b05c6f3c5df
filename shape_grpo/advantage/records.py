"""What is known of the candidates of one response, and of many as tensors."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from shape_grpo.candidates import CandidateSet

Reward = float | list[float]
"""A vector for utilities that take one."""


@dataclass
class CandidateRecord:
    """The candidates of one response.

    Attributes:
        rewards: One a candidate; None where its reward function failed.
        starts: First token of each candidate, counted in ``response_ids``.
        ends: One past its last token.
        handled: How many candidates fell under each rule (``truncated``, ``empty``, ...), and how
            many rewards were makeshifts (``fallback``).
        error: The first failure of the reward function, with its traceback; None without one.
        distinct: Different texts among the candidates that were scored; None where it is not known.
    """

    rewards: list[Reward | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    handled: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    distinct: int | None = None

    @classmethod
    def from_results(
        cls, found: CandidateSet, results: Sequence[Reward | str], handled: Counter[str]
    ) -> CandidateRecord:
        """What came of scoring a response's candidates.

        Args:
            found: The candidates.
            results: A reward each, or the traceback of its reward function's failure.
            handled: As the attribute.
        """
        failures = [result for result in results if isinstance(result, str)]
        return cls(
            rewards=[None if isinstance(result, str) else result for result in results],
            starts=[start for start, _ in found.spans],
            ends=[end for _, end in found.spans],
            handled=dict(handled),
            error=failures[0] if failures else None,
            distinct=found.num_distinct,
        )

    @property
    def num_errors(self) -> int:
        """Candidates whose reward is unknown."""
        return sum(reward is None for reward in self.rewards)

    @property
    def known_rewards(self) -> list[Reward]:
        """The rewards that the set is scored by."""
        return [reward for reward in self.rewards if reward is not None]

    @property
    def is_unknown(self) -> bool:
        """Whether there are candidates and not one of them could be scored."""
        return bool(self.rewards) and not self.known_rewards

    def to_json(self) -> str:
        """As it travels."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CandidateRecord:
        """What `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass
class CandidateBatch:
    """Candidates of N responses, padded to the longest set.

    Attributes:
        rewards: (N, K) float32, NaN where there is none; of vectors (N, K, M).
        mask: (N, K) bool; True for candidates with a reward.
        starts: (N, K) int64 first tokens; 0 in padding.
        ends: (N, K) int64 one past the last tokens; 0 in padding.
        unknown: (N,) bool; True for responses whose set could not be scored at all.
    """

    rewards: Tensor
    mask: Tensor
    starts: Tensor
    ends: Tensor
    unknown: Tensor

    @classmethod
    def collate(
        cls, records: Sequence[CandidateRecord], *, vectors: bool = False
    ) -> CandidateBatch:
        """Stack the records of a batch, in its order.

        Args:
            records: One a response.
            vectors: Whether the rewards are vectors.
        """
        rewards = stack_rewards([record.rewards for record in records], vectors=vectors)
        shape = rewards.shape[:2]
        mask = ~(rewards.isnan().any(2) if vectors else rewards.isnan())

        def pad(values: list[int]) -> list[int]:
            return values + [0] * (shape[1] - len(values))

        starts = torch.tensor([pad(record.starts) for record in records], dtype=torch.long)
        ends = torch.tensor([pad(record.ends) for record in records], dtype=torch.long)
        # A candidate without a reward owns no tokens: they are shared tokens of the response.
        return cls(
            rewards=rewards.float(),
            mask=mask,
            starts=starts.reshape(shape).where(mask, 0),
            ends=ends.reshape(shape).where(mask, 0),
            unknown=torch.tensor([record.is_unknown for record in records], dtype=torch.bool),
        )

    def to(self, device: torch.device) -> CandidateBatch:
        """The same on a device."""
        tensors = (self.rewards, self.mask, self.starts, self.ends, self.unknown)
        return CandidateBatch(*(tensor.to(device) for tensor in tensors))

    def token_counts(self, response_mask: Tensor) -> Tensor:
        """(N, K) int64: tokens of each candidate that the policy wrote, given the (N, T) mask."""
        counts = response_mask.bool().cumsum(-1, dtype=torch.int32)
        written = torch.nn.functional.pad(counts, (1, 0))
        return (written.gather(1, self.ends) - written.gather(1, self.starts)).long()

    def select(self, rows: Tensor | slice) -> CandidateBatch:
        """The responses at ``rows``: int64 indices, or a slice, which copies nothing."""
        return CandidateBatch(
            self.rewards[rows], self.mask[rows], self.starts[rows], self.ends[rows],
            self.unknown[rows],
        )  # fmt: skip


def stack_rewards(sets: Sequence[Sequence[Reward | None]], *, vectors: bool) -> Tensor:
    """Rewards of N sets as float64 (N, K), or (N, K, M) of vectors; NaN where there is none.

    Vectors are padded with zeros to the longest.
    """
    width = max((len(rewards) for rewards in sets), default=0)
    columns = [[*rewards, *[None] * (width - len(rewards))] for rewards in sets]
    if not vectors:
        numbers = [[math.nan if reward is None else reward for reward in row] for row in columns]
        return torch.tensor(numbers, dtype=torch.float64).reshape(len(sets), width)
    # One entry at least, so that a candidate that passes no test can be told from none.
    lengths = [len(reward) for row in columns for reward in row if isinstance(reward, list)]
    padded = torch.zeros(len(sets), width, max([1, *lengths]), dtype=torch.float64)
    for row, rewards in enumerate(columns):
        for column, reward in enumerate(rewards):
            values = reward if isinstance(reward, list) else [math.nan]
            padded[row, column, : len(values)] = torch.tensor(values, dtype=torch.float64)
    return padded
