"""What the reward manager tells the trainer about one response, and many of them as tensors.

It travels in verl's ``reward_extra_info`` as one JSON string: verl averages numbers and lists there
into its validation metrics, and leaves strings alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

KEY = "shape_grpo"
"""The key of the string in ``reward_extra_info``."""


@dataclass
class CandidateRecord:
    """The candidates of one response.

    Attributes:
        rewards: One a candidate; None where its reward function failed.
        starts: First token of each candidate, counted in ``response_ids``.
        ends: One past its last token.
        handled: How many candidates fell under each rule (``truncated``, ``empty``, ...).
        error: The first failure of the reward function, with its traceback; None without one.
    """

    rewards: list[float | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    handled: dict[str, int] = field(default_factory=dict)
    error: str | None = None

    @property
    def num_errors(self) -> int:
        """Candidates whose reward is unknown."""
        return sum(reward is None for reward in self.rewards)

    @property
    def known_rewards(self) -> list[float]:
        """The rewards that the set is scored by."""
        return [reward for reward in self.rewards if reward is not None]

    @property
    def is_unknown(self) -> bool:
        """Whether there are candidates and not one of them could be scored."""
        return bool(self.rewards) and not self.known_rewards

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> CandidateRecord:
        return cls(**json.loads(text))


@dataclass
class CandidateBatch:
    """Candidates of N responses, padded to the longest set.

    Attributes:
        rewards: (N, K) float32; NaN where there is none.
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
    def collate(cls, records: Sequence[CandidateRecord]) -> CandidateBatch:
        """Stack the records of a batch, in its order."""
        width = max((len(record.rewards) for record in records), default=0)

        def pad(values: Sequence[float | None]) -> list[float]:
            known = [float("nan") if value is None else value for value in values]
            return known + [float("nan")] * (width - len(known))

        def pad_index(values: list[int]) -> list[int]:
            return values + [0] * (width - len(values))

        shape = (len(records), width)
        rewards = torch.tensor([pad(record.rewards) for record in records]).reshape(shape)
        mask = ~rewards.isnan()
        starts = torch.tensor([pad_index(r.starts) for r in records], dtype=torch.long)
        ends = torch.tensor([pad_index(r.ends) for r in records], dtype=torch.long)
        # A candidate without a reward owns no tokens: they are shared tokens of the response.
        return cls(
            rewards=rewards.float(),
            mask=mask,
            starts=starts.reshape(shape).where(mask, 0),
            ends=ends.reshape(shape).where(mask, 0),
            unknown=torch.tensor([record.is_unknown for record in records], dtype=torch.bool),
        )

    def token_counts(self, response_mask: Tensor) -> Tensor:
        """(N, K) int64: tokens of each candidate that the policy wrote, given the (N, T) mask."""
        written = torch.nn.functional.pad(response_mask.bool().long().cumsum(-1), (1, 0))
        return written.gather(1, self.ends) - written.gather(1, self.starts)

    def select(self, rows: Tensor) -> CandidateBatch:
        """The responses at ``rows`` (int64 indices)."""
        return CandidateBatch(
            self.rewards[rows], self.mask[rows], self.starts[rows], self.ends[rows],
            self.unknown[rows],
        )  # fmt: skip
