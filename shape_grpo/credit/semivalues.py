"""Semivalues: a candidate's expected marginal contribution, under a law of who came before it.

Draw a probability t from a law on [0, 1] and let each other candidate be present with probability
t, independently. A candidate's expected marginal contribution U(S + k) - U(S) to the set S of those
present is a semivalue (Dubey, Neyman and Weber, 1981): with t uniform the Shapley value (Owen's
multilinear extension, 1972), with t = 1/2 the Banzhaf value, with t = 1 leave-one-out. A candidate
that contributes nothing to any set can be left out without a change for the others.
"""

from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Semivalue(Protocol):
    """A law of t, in the forms in which utilities need it."""

    def sizes(self, count: int) -> Tensor:
        """(count,) float64: at [s] the probability that s of count - 1 others are present."""
        ...

    def expected(self, gains: Tensor) -> Tensor:
        """(count,) float64: at [n - 1] the mean of ``gains[s]``, with s of the n - 1 others of n
        candidates present: ``sizes(n) @ gains[:n]``."""
        ...

    def nodes(self, degree: int) -> tuple[Tensor, Tensor]:
        """Values and weights of t, float64, exact for the mean of any polynomial in t of this
        degree."""
        ...


class Shapley:
    """t uniform: every number of others is equally probable."""

    def sizes(self, count: int) -> Tensor:
        return torch.full((count,), 1 / count, dtype=torch.float64)

    def expected(self, gains: Tensor) -> Tensor:
        return gains.cumsum(0) / torch.arange(1, len(gains) + 1)

    def nodes(self, degree: int) -> tuple[Tensor, Tensor]:
        """Gauss-Legendre: n nodes are exact to degree 2n - 1."""
        nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


class Banzhaf:
    """t = 1/2: every set of others is equally probable."""

    def sizes(self, count: int) -> Tensor:
        return _halved_pascal(count)[-1]

    def expected(self, gains: Tensor) -> Tensor:
        return _halved_pascal(len(gains)) @ gains

    def nodes(self, degree: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([0.5]).double(), torch.ones(1).double()


class LeaveOneOut:
    """t = 1: all others are there."""

    def sizes(self, count: int) -> Tensor:
        return torch.eye(count, dtype=torch.float64)[-1]

    def expected(self, gains: Tensor) -> Tensor:
        return gains

    def nodes(self, degree: int) -> tuple[Tensor, Tensor]:
        return torch.ones(1).double(), torch.ones(1).double()


@lru_cache(maxsize=4)
def _halved_pascal(count: int) -> Tensor:
    """(count, count): row n - 1 holds the binomial probabilities of n - 1 fair coins."""
    table = torch.zeros(count, count, dtype=torch.float64)
    table[0, 0] = 1
    for n in range(1, count):
        table[n, 1:] = table[n - 1, :-1] / 2
        table[n] += table[n - 1] / 2
    return table
