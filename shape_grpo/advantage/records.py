"""Records of the candidates of one response, and of many as tensors."""

from __future__ import annotations

import json
import math
from binascii import a2b_base64, b2a_base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shape_grpo.advantage.method import Method
from shape_grpo.candidates import CandidateSet
from shape_grpo.credit import Shares, check_rewards, compute_shares, shift_shares
from shape_grpo.credit.sets import chunks_by_size

Reward = float | list[float] | bytes
"""Reward of one candidate; a vector for utilities that take vectors. A vector of zeros and ones may
be ``bytes``, an eighth of a list's memory; `CandidateRecord.from_json` returns these."""


@dataclass
class CandidateRecord:
    """The candidates of one response.

    Attributes:
        rewards: One reward per candidate; None where its reward function failed.
        starts: First token of each candidate, as an index into ``response_ids``.
        ends: One past its last token.
        problem_counts: Number of candidates with each problem (``truncated``, ``empty``, ...), and
            of fallback rewards (``fallback``).
        error: First failure of the reward function, with its traceback; None without one.
        distinct: Number of different texts among the candidates that were scored; None where it is
            unknown.
        floor_places: Indices of the rewards that the rule ``floor`` gave, without a call of the
            reward function.
        texts: Text of each candidate, as the reward function gets it.
        written: Each candidate as the response has it, with escapes; empty where none has any.
        shares: Share of each candidate, None where there is no reward, under a utility that reads
            texts; empty under others, whose shares are computed for the whole batch.
        value: Utility of the set under such a utility.
        floor: Score of a response for which no reward was returned; None for others.
        parts: Further numbers that the reward function returned, by name: one per candidate, None
            where there is none.
    """

    rewards: list[Reward | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    problem_counts: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    distinct: int | None = None
    floor_places: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    shares: list[float | None] = field(default_factory=list)
    value: float | None = None
    floor: float | None = None
    parts: dict[str, list[float | None]] = field(default_factory=dict)

    @classmethod
    def unread(cls, error: str) -> CandidateRecord:
        """Return the record of a response in which candidates could not be looked for.

        It counts as one candidate that failed, without tokens: its set has no score.

        Args:
            error: Traceback of the format's failure.
        """
        return cls(rewards=[None], starts=[0], ends=[0], error=error, texts=[""])

    @classmethod
    def from_results(
        cls, found: CandidateSet, results: Sequence[Reward | str], problem_counts: Counter[str]
    ) -> CandidateRecord:
        """Build the record of a response whose candidates have been scored.

        Args:
            found: The candidates.
            results: Per candidate its reward, or the traceback of its reward function's failure.
            problem_counts: As the attribute.
        """
        failures = [result for result in results if isinstance(result, str)]
        return cls(
            rewards=[None if isinstance(result, str) else result for result in results],
            starts=[start for start, _ in found.spans],
            ends=[end for _, end in found.spans],
            problem_counts=dict(problem_counts),
            error=failures[0] if failures else None,
            distinct=found.num_distinct,
            floor_places=[place for place, text in enumerate(found.texts) if text is None],
            texts=[candidate.text for candidate in found.candidates],
            written=[candidate.written for candidate in found.candidates]
            if any(candidate.escaped for candidate in found.candidates)
            else [],
        )

    @property
    def num_asked(self) -> int:
        """Number of candidates that a reward function was called for."""
        return len(self.rewards) - len(self.floor_places)

    @property
    def num_errors(self) -> int:
        """Number of candidates whose reward is unknown."""
        return sum(reward is None for reward in self.rewards)

    @property
    def known_rewards(self) -> list[Reward]:
        """Rewards that the set is scored by."""
        return [reward for reward in self.rewards if reward is not None]

    @property
    def returned_rewards(self) -> list[Reward]:
        """Rewards that a reward function returned."""
        floors = set(self.floor_places)
        return [r for k, r in enumerate(self.rewards) if r is not None and k not in floors]

    @property
    def is_unknown(self) -> bool:
        """Whether every call of the reward function failed; floor rewards say nothing then."""
        return 0 < self.num_errors >= self.num_asked

    def to_json(self) -> str:
        """Return the record as JSON; vectors of zeros and ones become base64 of their bits."""
        rewards = [_pack(reward) for reward in self.rewards]
        return json.dumps({**vars(self), "rewards": rewards}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> CandidateRecord:
        """Read a record that `to_json` wrote."""
        return cls.from_fields(json.loads(text))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> CandidateRecord:
        """Build a record from parsed JSON of `to_json`, also of another version of this package."""
        rewards = [_unpack(r) if isinstance(r, str) else r for r in fields["rewards"]]
        known = {name: value for name, value in fields.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "rewards": rewards})


_DIGITS_TO_BITS = bytes.maketrans(b"01", b"\0\1")
_BITS_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")


def _pack(reward: Reward | None) -> float | list[float] | str | None:
    """Return a vector of zeros and ones as base64 of a binary number, any other reward as is.

    The number has a 1 before the first bit of the vector, which would lose its leading zeros.
    """
    if isinstance(reward, list) and all(value in (0, 1) for value in reward):
        reward = bytes(map(int, reward))
    if not isinstance(reward, bytes):
        return reward
    number = int(b"1" + reward.translate(_BITS_TO_DIGITS), 2)
    packed = number.to_bytes(len(reward) // 8 + 1, "big")
    return b2a_base64(packed, newline=False).decode().rstrip("=")


def _unpack(packed: str) -> bytes:
    number = int.from_bytes(a2b_base64(packed + "=="), "big")
    return f"{number:b}"[1:].encode().translate(_DIGITS_TO_BITS)


@dataclass
class CandidateBatch:
    """Candidates of N responses, padded to the longest set.

    Attributes:
        rewards: (N, K) float32, 0 in padding; (N, K, M) for vectors.
        mask: (N, K) bool; True for candidates with a reward.
        starts: (N, K) int64 first tokens; 0 in padding.
        ends: (N, K) int64 one past the last tokens; 0 in padding.
        unknown: (N,) bool; True for responses whose set could not be scored at all.
        shares: (N, K) float64 shares that the records have; 0 where they have none.
        values: (N,) float64 utilities that the records have; 0 where they have none.
    """

    rewards: Tensor
    mask: Tensor
    starts: Tensor
    ends: Tensor
    unknown: Tensor
    shares: Tensor
    values: Tensor

    @classmethod
    def collate(
        cls, records: Sequence[CandidateRecord], *, vectors: bool = False
    ) -> CandidateBatch:
        """Stack the records of a batch, in its order.

        Args:
            records: One record per response.
            vectors: Whether the rewards are vectors.
        """
        sets = [record.rewards for record in records]
        rewards, mask = _stack(sets, torch.float32, vectors=vectors)
        # A candidate without a reward owns no tokens: they are shared tokens of the response.
        return cls(
            rewards=rewards,
            mask=mask,
            starts=_stack([record.starts for record in records], torch.int64)[0].where(mask, 0),
            ends=_stack([record.ends for record in records], torch.int64)[0].where(mask, 0),
            unknown=torch.tensor([record.is_unknown for record in records], dtype=torch.bool),
            shares=_stack_shares(records, mask),
            values=torch.tensor([record.value or 0.0 for record in records], dtype=torch.float64),
        )

    def to(self, device: torch.device) -> CandidateBatch:
        """Return the batch on a device."""
        return CandidateBatch(*(tensor.to(device) for tensor in vars(self).values()))

    def token_counts(self, response_mask: Tensor) -> Tensor:
        """Return (N, K) int64: tokens of each candidate inside the (N, T) mask."""
        counts = response_mask.bool().cumsum(-1, dtype=torch.int32)
        written = torch.nn.functional.pad(counts, (1, 0))
        return (written.gather(1, self.ends) - written.gather(1, self.starts)).long()

    def select(self, rows: Tensor | slice) -> CandidateBatch:
        """Return the responses at ``rows``: int64 indices, or a slice, which copies nothing."""
        return CandidateBatch(*(tensor[rows] for tensor in vars(self).values()))

    def compute_shares(self, method: Method) -> Shares:
        """Split the utilities of the sets by a method, in float64.

        Advantages and metrics both need the shares; a trainer computes them once and hands them on.

        Raises:
            ValueError: As `shape_grpo.credit.allocate`.
        """
        utility = method.utility
        if utility.takes_texts:
            return shift_shares(self.shares, self.mask, self.values)
        for rows, width in chunks_by_size(self.rewards, self.mask):
            if not utility.allows(self.rewards[rows, :width]).all():
                check_rewards(self.rewards, self.mask, utility)  # names the reward
        return compute_shares(self.rewards, self.mask, utility, method.allocator, torch.float64)


def stack_rewards(sets: Sequence[Sequence[Reward | None]], *, vectors: bool) -> Tensor:
    """Stack the rewards of N sets as float64 (N, K), or (N, K, M) for vectors; NaN in padding.

    Vectors are padded with zeros to the longest.
    """
    rewards, mask = _stack(sets, torch.float64, vectors=vectors)
    return rewards.where(mask.unsqueeze(2) if vectors else mask, math.nan)


def _stack(
    sets: Sequence[Sequence[Any]], dtype: torch.dtype, *, vectors: bool = False
) -> tuple[Tensor, Tensor]:
    """Stack numbers or vectors of N sets, 0 in padding, and the mask (N, K) of what is there.

    None and NaN stand for a missing number.
    """
    counts = torch.tensor([len(numbers) for numbers in sets])
    width = max(counts.tolist(), default=0)
    mask = torch.arange(width) < counts.unsqueeze(1)
    numbers = [number for numbers in sets for number in numbers]
    if vectors:
        values = _stack_vectors([vector for vector in numbers if vector is not None])
        present = torch.tensor([vector is not None for vector in numbers], dtype=torch.bool)
    else:
        values = torch.from_numpy(np.array(numbers, dtype=np.float64))
        present = ~values.isnan()
        values = values[present]
    mask[mask.clone()] = present
    stacked = torch.zeros(*mask.shape, *values.shape[1:], dtype=dtype)
    stacked[mask] = values.to(dtype)
    return stacked, mask


def _stack_shares(records: Sequence[CandidateRecord], mask: Tensor) -> Tensor:
    if not any(record.shares for record in records):
        return torch.zeros_like(mask, dtype=torch.float64)
    width = mask.shape[1]
    padded = [[*record.shares, *[0.0] * (width - len(record.shares))] for record in records]
    return torch.tensor([[share or 0.0 for share in row] for row in padded], dtype=torch.float64)


def _stack_vectors(vectors: Sequence[list[float] | bytes]) -> Tensor:
    """Return (C, M), padded with zeros to the longest vector."""
    # At least one entry, so that a candidate that passes no test differs from no candidate.
    width = max([1, *map(len, vectors)])
    packed = [vector for vector in vectors if isinstance(vector, bytes)]
    if packed and len(packed) == len(vectors):
        joined = bytearray().join(vector.ljust(width, b"\0") for vector in packed)
        return torch.frombuffer(joined, dtype=torch.uint8).view(-1, width)
    padded = [[*vector, *[0.0] * (width - len(vector))] for vector in vectors]
    return torch.tensor(padded, dtype=torch.float64).view(-1, width)
