"""Allocators: how the utility of a set is split over its candidates."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from shape_grpo.credit.utilities import Utility
from shape_grpo.registry import Registry, build


class Allocator(ABC):
    """Rule that splits the utility of a set over its candidates.

    Options are the fields of a frozen dataclass, checked in its ``__post_init__``. The first
    paragraph of a class's docstring is what ``python -m shape_grpo explain`` prints about it.
    """

    is_uniform: ClassVar[bool] = False
    """Whether all tokens of a set are paid alike, at any lengths, which is GRPO."""

    @abstractmethod
    def allocate(self, rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
        """Return the shares (N, K); undefined where the mask is False.

        Args:
            rewards: As `Utility` describes them.
            mask: (N, K) bool, True where there is a candidate.
            utility: Set utility that is split.
        """

    def objective_weights(self, count: int) -> Tensor:
        """Return the objective that training maximises when candidates are paid their shares.

        It is the sum over s of the weights times the expected utility of s of the candidates
        (best-of-s under ``max``), for candidates that are drawn independently of each other;
        README.md has the theorem. For ``uniform``, which is GRPO, it is the utility of all
        candidates. For ``banzhaf`` it is the objective of the value before scaling.

        Args:
            count: K, the number of candidates per set, 1 or more.

        Returns:
            (K,) float64 weights of 0 or more, with sum 1: at [s - 1] the weight of s candidates.

        Raises:
            ValueError: No such objective is known for this allocator, or ``count`` is below 1.
        """
        raise ValueError(
            f"{type(self).__name__} is no semivalue: no utility of the set is known whose expected "
            "gradient its shares follow"
        )


ALLOCATORS: Registry[type[Allocator]] = Registry("allocator")
"""Name to class; `register_allocator` adds one."""

register_allocator = ALLOCATORS.register


def make_allocator(allocator: str | Allocator, **options: Any) -> Allocator:
    """Build an allocator from its name in `ALLOCATORS` and its options.

    An `Allocator` is returned as is.

    Raises:
        ValueError: The name is unknown, or an option is unknown, missing or not allowed.
    """
    return allocator if isinstance(allocator, Allocator) else build(ALLOCATORS, allocator, options)


@register_allocator("uniform")
@dataclass(frozen=True)
class Uniform(Allocator):
    """The same share for every candidate: GRPO."""

    is_uniform = True

    def allocate(self, rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
        value = utility.value(rewards, mask).unsqueeze(1)
        return mask * (value / mask.sum(dim=1, keepdim=True).clamp(min=1))

    def objective_weights(self, count: int) -> Tensor:
        check_count(count)
        return torch.eye(count, dtype=torch.float64)[-1]


@register_allocator("winner_takes_all")
@dataclass(frozen=True)
class WinnerTakesAll(Allocator):
    """All to the candidate that ranks highest; tied candidates share equally."""

    def allocate(self, rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
        ranking = utility.ranking(rewards).masked_fill(~mask, -math.inf)
        winners = mask & (ranking == ranking.amax(dim=1, keepdim=True))
        value = utility.value(rewards, mask).unsqueeze(1)
        return winners * (value / winners.sum(dim=1, keepdim=True).clamp(min=1))


def check_count(count: int) -> None:
    """Check a number of candidates.

    Raises:
        ValueError: It is below 1.
    """
    if count < 1:
        raise ValueError(f"count={count}: a set that is drawn has 1 candidate or more")
