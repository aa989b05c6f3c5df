"""Semivalues: a candidate's expected marginal contribution, under a law of who came before it.

A semivalue (Dubey, Neyman and Weber, 1981) is the mean of a candidate's marginal contributions
U(S + k) - U(S) to the sets S of others, where a law says with what probability s of the others are
present, and every S of one size is as probable as the next. A candidate that contributes nothing to
any set can be left out without a change for the others.

Most laws are those of a probability t: draw t, and let each other candidate be present with
probability t, independently. With t uniform that is the Shapley value (Owen's multilinear
extension, 1972), with t = 1/2 the Banzhaf value, with t = 1 leave-one-out.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


class Semivalue(ABC):
    """A law of the number of others that are present; two that are equal have one hash."""

    @abstractmethod
    def sizes(self, count: int) -> Tensor:
        """(count,) float64: at [s] the probability that s of count - 1 others are present."""

    def expected(self, gains: Tensor) -> Tensor:
        """(count,) float64: at [n - 1] the mean of ``gains[s]``, with s of the n - 1 others of n
        candidates present, where these n are some of count candidates.
        """
        return _sizes_of_some(self, len(gains)) @ gains


@dataclass(frozen=True)
class Shapley(Semivalue):
    """t uniform: every number of others is equally probable."""

    def sizes(self, count: int) -> Tensor:
        return torch.full((count,), 1 / count, dtype=torch.float64)

    def expected(self, gains: Tensor) -> Tensor:
        return gains.cumsum(0) / torch.arange(1, len(gains) + 1)


@dataclass(frozen=True)
class Banzhaf(Semivalue):
    """t = 1/2: every set of others is equally probable."""

    def sizes(self, count: int) -> Tensor:
        others = count - 1
        chances = [math.comb(others, s) / 2**others for s in range(count)]
        return torch.tensor(chances, dtype=torch.float64)


@dataclass(frozen=True)
class LeaveOneOut(Semivalue):
    """t = 1: all others are there."""

    def sizes(self, count: int) -> Tensor:
        return torch.eye(count, dtype=torch.float64)[-1]

    def expected(self, gains: Tensor) -> Tensor:
        return gains


@dataclass(frozen=True)
class BetaShapley(Semivalue):
    """t of the law Beta(alpha, beta): of m others s are present with the beta-binomial probability
    C(m, s) B(alpha + s, beta + m - s) / B(alpha, beta), none with B(alpha, beta + m) /
    B(alpha, beta).

    alpha = beta = 1 is the Shapley value, and `beta_shapley` returns that; with alpha to infinity
    it becomes leave-one-out. Beta Shapley is of Kwon and Zou (AISTATS 2022), who write the two the
    other way round: their Beta(a, b) is ours with alpha = b, beta = a.

    Attributes:
        alpha: Above 0; the larger, the more of the others are there.
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
        # Ratios of neighbours: logarithms of the gamma function would cancel where alpha is large.
        others = count - 1
        s = torch.arange(others, dtype=torch.float64)
        ratios = ((others - s) / (s + 1)).log() + (self.alpha + s).log()
        ratios -= (self.beta + (others - s - 1)).log()
        return torch.nn.functional.pad(ratios.cumsum(0), (1, 0)).softmax(0)


def beta_shapley(alpha: float, beta: float) -> Semivalue:
    """`BetaShapley`, or for alpha = beta = 1 `Shapley` itself, so that they agree to the bit."""
    law = BetaShapley(alpha, beta)
    return Shapley() if law.alpha == law.beta == 1 else law


@dataclass(frozen=True)
class Attention(Semivalue):
    """Whom a user sees beside k who looks at s of the candidates with probability q_s: of K
    candidates s - 1 others are seen with P(s - 1) = s q_s / sum over j of j q_j.

    The user chooses among as many places as ``looks`` has entries. In a smaller set some places are
    empty, and a look at them shows nobody: P is the hypergeometric mixture that is left. In a
    larger set all candidates are places, and nobody looks at more than ``looks`` says. This is no
    law of t, and for the sake of sets larger than ``looks`` the allocator ``attention`` keeps sets
    of different size apart.

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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _sizes_without_one(sizes: Tensor) -> Tensor:
    """The law (count - 1,) of how many are present, if one of the others is not counted."""
    others = len(sizes) - 1
    s = torch.arange(others, dtype=torch.float64)
    return (sizes[:-1] * (others - s) + sizes[1:] * (s + 1)) / others


@lru_cache(maxsize=4)
def _sizes_of_some(law: Semivalue, count: int) -> Tensor:
    """(count, count): row n - 1 holds ``law.sizes(count)`` as n of the count candidates see it."""
    table = torch.zeros(count, count, dtype=torch.float64)
    sizes = law.sizes(count)
    for n in range(count, 0, -1):
        table[n - 1, :n] = sizes
        if n > 1:
            sizes = _sizes_without_one(sizes)
    return table
