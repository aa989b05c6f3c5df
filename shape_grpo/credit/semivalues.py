"""Semivalues: a candidate's expected marginal contribution, under a law of who came before it.

A semivalue (Dubey, Neyman and Weber, 1981) is the mean of a candidate's marginal contributions
U(S + k) - U(S) to the sets S of others. A law gives the probability that s of the others are
present, and all S of one size are equally probable. A candidate that contributes nothing to any set
can be left out without a change for the others.

Most laws are those of a probability t: draw t, and let each other candidate be present with
probability t, independently. With t uniform that is the Shapley value (Owen's multilinear
extension, 1972), with t = 1/2 the Banzhaf value, with t = 1 leave-one-out.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from shape_grpo.credit.allocators import Allocator, Uniform, check_count, register_allocator
from shape_grpo.credit.utilities import Utility


class Semivalue(Allocator):
    """Allocator that pays the semivalue under a law of the number of others that are present.

    Equal laws have equal hashes.
    """

    @abstractmethod
    def sizes(self, count: int) -> Tensor:
        """Return (count,) float64: at [s] the probability that s of count - 1 others are there."""

    def expected(self, gains: Tensor) -> Tensor:
        """Return (count,) float64: at [n - 1] the mean of ``gains[s]``, with s of the n - 1 others
        of n candidates present, where these n are some of count candidates.
        """
        return _sizes_of_some(self, len(gains)) @ gains

    def allocate(self, rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
        return utility.semivalue(rewards, mask, self)

    def objective_weights(self, count: int) -> Tensor:
        check_count(count)
        weights = self.sizes(count) / torch.arange(1, count + 1)
        return weights / weights.sum()


@register_allocator("shapley")
@dataclass(frozen=True)
class Shapley(Semivalue):
    """The Shapley value: shares sum to U.

    t is uniform: every number of others is equally probable.
    """

    def sizes(self, count: int) -> Tensor:
        return torch.full((count,), 1 / count, dtype=torch.float64)

    def expected(self, gains: Tensor) -> Tensor:
        return gains.cumsum(0) / torch.arange(1, len(gains) + 1)


@register_allocator("banzhaf")
@dataclass(frozen=True)
class Banzhaf(Semivalue):
    """The Banzhaf value, scaled to sum to U; equal shares where it sums to 0.

    t = 1/2: every set of others is equally probable.
    """

    def sizes(self, count: int) -> Tensor:
        others = count - 1
        chances = [math.comb(others, s) / 2**others for s in range(count)]
        return torch.tensor(chances, dtype=torch.float64)

    def allocate(self, rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
        values = utility.semivalue(rewards, mask, self).double().masked_fill(~mask, 0.0)
        total = values.sum(dim=1, keepdim=True)
        vanishes = total.abs() <= 1e-12 * values.abs().amax(dim=1, keepdim=True)
        shares = utility.value(rewards, mask).unsqueeze(1) * (values / total)
        return torch.where(vanishes, Uniform().allocate(rewards, mask, utility), shares)


@register_allocator("leave_one_out")
@dataclass(frozen=True)
class LeaveOneOut(Semivalue):
    """U(all) - U(all but k): what the set would lose. The shares do not sum to U.

    t = 1: all others are present.
    """

    def sizes(self, count: int) -> Tensor:
        return torch.eye(count, dtype=torch.float64)[-1]

    def expected(self, gains: Tensor) -> Tensor:
        return gains


@register_allocator("beta_shapley")
@dataclass(frozen=True)
class BetaShapley(Semivalue):
    """From the Shapley value (alpha = beta = 1) to leave-one-out (alpha to infinity). The shares
    sum to U only at alpha = beta = 1.

    t follows the law Beta(alpha, beta): of m others s are present with the beta-binomial
    probability C(m, s) B(alpha + s, beta + m - s) / B(alpha, beta), none with
    B(alpha, beta + m) / B(alpha, beta). Source: Beta Shapley, Kwon and Zou (AISTATS 2022), who
    write the two the other way round: their Beta(a, b) is alpha = b, beta = a here.

    Attributes:
        alpha: Above 0; the larger, the more of the others are present.
        beta: Above 0; the larger, the fewer.

    Raises:
        ValueError: One of them is not a finite number above 0.
    """

    alpha: float
    beta: float

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not _is_number(value) or value <= 0:
                raise ValueError(
                    f"allocator 'beta_shapley' needs {name} to be a finite number above 0, "
                    f"not {value!r}"
                )

    def sizes(self, count: int) -> Tensor:
        if self._is_shapley:
            return Shapley().sizes(count)
        # Ratios of neighbours: logarithms of the gamma function would cancel where alpha is large.
        others = count - 1
        s = torch.arange(others, dtype=torch.float64)
        ratios = ((others - s) / (s + 1)).log() + (self.alpha + s).log()
        ratios -= (self.beta + (others - s - 1)).log()
        return torch.nn.functional.pad(ratios.cumsum(0), (1, 0)).softmax(0)

    def expected(self, gains: Tensor) -> Tensor:
        return Shapley().expected(gains) if self._is_shapley else super().expected(gains)

    @property
    def _is_shapley(self) -> bool:
        """Whether the law is Shapley's, whose closed forms then give the same bits."""
        return self.alpha == self.beta == 1


class LimitedLooks(Semivalue):
    """Semivalue of a user who never looks at more than ``places`` candidates.

    The law depends on the size of a set only where that is above ``places``.
    """

    @property
    @abstractmethod
    def places(self) -> int:
        """Largest number of candidates that the user looks at."""

    def allocate(self, rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
        shares = torch.zeros_like(mask, dtype=torch.float64)
        sizes = mask.sum(dim=1).clamp(min=min(self.places, mask.shape[1]))
        for size in sizes.unique().tolist():
            rows = (sizes == size).nonzero()
            columns = mask[rows.squeeze(1)].int().argsort(dim=1, descending=True, stable=True)
            columns = columns[:, :size]
            values = utility.semivalue(rewards[rows, columns], mask[rows, columns], self)
            shares[rows, columns] = values.double()
        return shares


@register_allocator("attention")
@dataclass(frozen=True)
class Attention(LimitedLooks):
    """Expected contribution of k for a user who looks at s of the candidates with probability
    ``looks[s - 1]``. The shares do not sum to U.

    Of K candidates s - 1 others are seen with P(s - 1) = s q_s / sum over j of j q_j. The user
    chooses among as many places as ``looks`` has entries. In a smaller set some places are empty,
    and P is the hypergeometric mixture of what the user sees. In a larger set all candidates are
    places, and no user looks at more of them than ``looks`` has entries. This is no law of t,
    and for sets larger than ``looks`` it depends on the size of the set.

    Attributes:
        looks: q_1, q_2, ..., 0 or more; in proportion, they need not sum to 1.

    Raises:
        ValueError: They are not finite numbers of 0 and more, or all are 0.
    """

    looks: Sequence[float]

    def __post_init__(self) -> None:
        given = self.looks
        looks = given if isinstance(given, Sequence) and not isinstance(given, str) else ()
        if not all(_is_number(q) and q >= 0 for q in looks) or not any(looks):
            raise ValueError(
                "allocator 'attention' needs looks to be a list of finite numbers of 0 and more, "
                f"not all 0, as in [0.5, 0.3, 0.2], not {given!r}"
            )
        # A tuple can be hashed.
        object.__setattr__(self, "looks", tuple(float(q) for q in looks))

    def sizes(self, count: int) -> Tensor:
        looks = torch.tensor(self.looks, dtype=torch.float64)
        looks = torch.nn.functional.pad(looks / looks.max(), (0, max(count - len(looks), 0)))
        seen = looks * torch.arange(1, len(looks) + 1)
        sizes = seen / seen.sum()
        while len(sizes) > count:
            sizes = _sizes_without_one(sizes)
        return sizes

    @property
    def places(self) -> int:
        return len(self.looks)


@register_allocator("best_of_k")
@dataclass(frozen=True)
class BestOfK(LimitedLooks):
    """Expected contribution to k of the candidates, or to all of a smaller set. Training climbs
    the expected utility of k: best-of-k under ``max``. The shares do not sum to U.

    It is ``attention`` with all weight on looks at k candidates: k - 1 others are present. Under
    ``max``, of K candidates, it is K / k times the weight s^(loo-1) of PKPO (arXiv 2505.15201).
    k = 1 pays the reward, k = K is leave-one-out.

    Attributes:
        k: 1 or more.

    Raises:
        ValueError: k is no whole number above 0.
    """

    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise ValueError(
                f"allocator 'best_of_k' needs k to be a whole number above 0, not {self.k!r}"
            )

    def sizes(self, count: int) -> Tensor:
        return torch.eye(count, dtype=torch.float64)[min(self.k, count) - 1]

    @property
    def places(self) -> int:
        return self.k


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _sizes_without_one(sizes: Tensor) -> Tensor:
    """Return the law (count - 1,) of how many are present, if one of the others is not counted."""
    others = len(sizes) - 1
    s = torch.arange(others, dtype=torch.float64)
    return (sizes[:-1] * (others - s) + sizes[1:] * (s + 1)) / others


@lru_cache(maxsize=4)
def _sizes_of_some(law: Semivalue, count: int) -> Tensor:
    """Return (count, count): row n - 1 has ``law.sizes(count)`` as n of the candidates see it."""
    table = torch.zeros(count, count, dtype=torch.float64)
    sizes = law.sizes(count)
    for n in range(count, 0, -1):
        table[n - 1, :n] = sizes
        if n > 1:
            sizes = _sizes_without_one(sizes)
    return table
