"""What is known of the candidates of one response, and of many as tensors."""

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

from shape_grpo.candidates import CandidateSet
from shape_grpo.credit import (
    Shares,
    Utility,
    check_rewards,
    make_allocator,
    make_utility,
    share_sets,
)
from shape_grpo.credit.allocators import sets_of_a_size

Reward = float | list[float] | bytes
"""A vector for utilities that take one. Where all its numbers are 0 or 1 it may be ``bytes`` of
them, an eighth of a list's memory; `CandidateRecord.from_json` gives these."""


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
        fixed: How many of the rewards are that of the rule ``floor``, without a call of the reward
            function.
    """

    rewards: list[Reward | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    handled: dict[str, int] = field(default_factory=dict)
    error: str | None = None
    distinct: int | None = None
    fixed: int = 0

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
            fixed=sum(text is None for text in found.texts),
        )

    @property
    def num_asked(self) -> int:
        """Candidates that a reward function was called for."""
        return len(self.rewards) - self.fixed

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
        """Whether every call of the reward function failed; rewards by rule say nothing then."""
        return 0 < self.num_asked == self.num_errors

    def to_json(self) -> str:
        """As it travels: vectors of zeros and ones are base64 of their bits."""
        rewards = [_pack(reward) for reward in self.rewards]
        return json.dumps({**vars(self), "rewards": rewards}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> CandidateRecord:
        """What `to_json` wrote."""
        return cls.from_fields(json.loads(text))

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> CandidateRecord:
        """What `to_json` wrote, once it is parsed."""
        rewards = [_unpack(r) if isinstance(r, str) else r for r in fields["rewards"]]
        return cls(**{**fields, "rewards": rewards})


_DIGITS_TO_BITS = bytes.maketrans(b"01", b"\0\1")
_BITS_TO_DIGITS = bytes.maketrans(b"\0\1", b"01")


def _pack(reward: Reward | None) -> float | list[float] | str | None:
    """A vector of zeros and ones as base64 of a binary number, any other reward as it is.

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
        rewards: (N, K) float32, 0 where there is none; of vectors (N, K, M).
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
    _selected_from: tuple[CandidateBatch, Tensor | slice] | None = field(default=None, repr=False)
    _shared: tuple[Any, Shares] | None = field(default=None, init=False, repr=False)

    @classmethod
    def collate(
        cls, records: Sequence[CandidateRecord], *, vectors: bool = False
    ) -> CandidateBatch:
        """Stack the records of a batch, in its order.

        Args:
            records: One a response.
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
        )

    def to(self, device: torch.device) -> CandidateBatch:
        """The same on a device."""
        return CandidateBatch(
            self.rewards.to(device),
            self.mask.to(device),
            self.starts.to(device),
            self.ends.to(device),
            self.unknown.to(device),
        )

    def token_counts(self, response_mask: Tensor) -> Tensor:
        """(N, K) int64: tokens of each candidate that the policy wrote, given the (N, T) mask."""
        counts = response_mask.bool().cumsum(-1, dtype=torch.int32)
        written = torch.nn.functional.pad(counts, (1, 0))
        return (written.gather(1, self.ends) - written.gather(1, self.starts)).long()

    def select(self, rows: Tensor | slice) -> CandidateBatch:
        """The responses at ``rows``: int64 indices, or a slice, which copies nothing."""
        if isinstance(rows, slice) and rows == slice(None):
            return self
        return CandidateBatch(
            self.rewards[rows],
            self.mask[rows],
            self.starts[rows],
            self.ends[rows],
            self.unknown[rows],
            (self, rows),
        )

    def share(
        self,
        utility: str | Utility,
        allocator: str,
        allocator_options: Mapping[str, Any] | None = None,
    ) -> Shares:
        """How the utilities of the sets are shared out, in float64. It is computed once for a
        batch and all that were selected from it: advantages and metrics both need it.

        Raises:
            ValueError: As `shape_grpo.credit.allocate`.
        """
        if self._selected_from is not None:
            whole, rows = self._selected_from
            return whole.share(utility, allocator, allocator_options).select(rows)
        how = (utility, allocator, dict(allocator_options or {}))
        if self._shared is None or self._shared[0] != how:
            game, share_out = make_utility(utility), make_allocator(allocator, **how[2])
            for rows, width in sets_of_a_size(self.rewards, self.mask):
                if not game.allows(self.rewards[rows, :width]).all():
                    check_rewards(self.rewards, self.mask, game)  # says which one
            self._shared = how, share_sets(self.rewards, self.mask, game, share_out, torch.float64)
        return self._shared[1]


def stack_rewards(sets: Sequence[Sequence[Reward | None]], *, vectors: bool) -> Tensor:
    """Rewards of N sets as float64 (N, K), or (N, K, M) of vectors; NaN where there is none.

    Vectors are padded with zeros to the longest.
    """
    rewards, mask = _stack(sets, torch.float64, vectors=vectors)
    return rewards.where(mask.unsqueeze(2) if vectors else mask, math.nan)


def _stack(
    sets: Sequence[Sequence[Any]], dtype: torch.dtype, *, vectors: bool = False
) -> tuple[Tensor, Tensor]:
    """Numbers or vectors of N sets, 0 where there is none, and the mask (N, K) of where there is.

    None and NaN stand for no number.
    """
    counts = torch.tensor([len(of_set) for of_set in sets])
    width = max(counts.tolist(), default=0)
    mask = torch.arange(width) < counts.unsqueeze(1)
    numbers = [number for of_set in sets for number in of_set]
    if vectors:
        values = _stack_vectors([vector for vector in numbers if vector is not None])
        there = torch.tensor([vector is not None for vector in numbers], dtype=torch.bool)
    else:
        values = torch.from_numpy(np.array(numbers, dtype=np.float64))
        there = ~values.isnan()
        values = values[there]
    mask[mask.clone()] = there
    stacked = torch.zeros(*mask.shape, *values.shape[1:], dtype=dtype)
    stacked[mask] = values.to(dtype)
    return stacked, mask


def _stack_vectors(vectors: Sequence[list[float] | bytes]) -> Tensor:
    """(C, M): padded with zeros to the longest."""
    # One entry at least, so that a candidate that passes no test can be told from none.
    width = max([1, *map(len, vectors)])
    packed = [vector for vector in vectors if isinstance(vector, bytes)]
    if packed and len(packed) == len(vectors):
        joined = bytearray().join(vector.ljust(width, b"\0") for vector in packed)
        return torch.frombuffer(joined, dtype=torch.uint8).view(-1, width)
    padded = [[*vector, *[0.0] * (width - len(vector))] for vector in vectors]
    return torch.tensor(padded, dtype=torch.float64).view(-1, width)
