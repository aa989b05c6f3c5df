"""Utilities of vectors: every component of a set counts by the candidate that is best at it.

The closed forms and their proofs: README.md in this folder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from shape_grpo.credit.ordered import Max
from shape_grpo.credit.semivalues import Semivalue
from shape_grpo.credit.utilities import Utility, register_utility

FEW = 12
"""Number of candidates up to which comparing all of them with each other is faster than sorting."""


class ComponentUtility(Utility):
    """U(S) = sum over components m of w_m times the best r_km of S, for rewards of 0 and more.

    U is a sum of max utilities, and a candidate's semivalue the sum of its semivalues there. With
    ascending s_1..s_K and e_l = P(none of the others that reach s_l is present), the sum over steps
    of `OrderedUtility` is x - sum over l < K of min(x, s_l) (e_(l+1) - e_l) for a reward x, which
    needs the sorted rewards but not their order. O(M K log K); O(M K^2) up to `FEW` candidates.
    """

    takes_vectors = True

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return (rewards.amax(dim=1) * self._weights(rewards)).sum(dim=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        # No candidate is a candidate with rewards of 0, which add nothing to any set.
        count, weights = rewards.shape[1], self._weights(rewards)
        if count > FEW:
            sets = rewards.transpose(1, 2).flatten(0, 1)
            shares = Max().semivalue(sets, sets >= 0, law)
            return weights @ shares.unflatten(0, (len(rewards), -1))
        columns = rewards.double().transpose(0, 1).flatten(1)
        alone = law.expected(torch.eye(1, count, dtype=torch.float64)[0]).flip(0)
        shares, lower = columns.clone(), torch.empty_like(columns)
        for reward, step in zip(sort_columns(columns), alone.diff().tolist(), strict=False):
            shares.sub_(torch.minimum(columns, reward, out=lower), alpha=step)
        return (shares.unflatten(1, (len(rewards), -1)) @ weights).T

    def ranking(self, rewards: Tensor) -> Tensor:
        """Return (N, K): the utility of each candidate alone."""
        return (rewards * self._weights(rewards)).sum(dim=2)

    def allows(self, rewards: Tensor) -> Tensor:
        # One comparison, which NaN fails, where isfinite takes three.
        return rewards == rewards.clamp(min=0, max=torch.finfo(rewards.dtype).max)

    def _weights(self, rewards: Tensor) -> Tensor:
        """Return w_1..w_M, float64."""
        return rewards.new_ones(rewards.shape[2], dtype=torch.float64)


@register_utility("best_per_component")
@dataclass
class BestPerComponent(ComponentUtility):
    """U(S) = sum over components m of w_m times the best r_km of S. U(empty) = 0.

    A candidate's reward is a vector with one number of 0 or more per component (aspect, taste, test
    case, ...); a vector that is shorter than others has 0 in the remaining ones.

    Attributes:
        weights: One weight per component. Default: 1.
    """

    weights: Sequence[float] | None = None

    domain = "vectors of finite numbers of 0 and more, no longer than the weights"

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        self.weights = [float(weight) for weight in self.weights]
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            raise ValueError(
                f"utility {type(self).__name__} needs finite weights of 0 and more, "
                f"not {self.weights}"
            )

    def allows(self, rewards: Tensor) -> Tensor:
        allowed = super().allows(rewards)
        few_enough = self.weights is None or rewards.shape[-1] <= len(self.weights)
        return allowed if few_enough else torch.zeros_like(allowed)

    def _weights(self, rewards: Tensor) -> Tensor:
        if self.weights is None:
            return super()._weights(rewards)
        weights = self.weights[: rewards.shape[2]]
        return torch.tensor(weights, dtype=torch.float64, device=rewards.device)


@register_utility("coverage")
@dataclass
class Coverage(BestPerComponent):
    """U(S) = total weight of the tests (topics, ...) that at least one candidate of S passes.
    U(empty) = 0.

    `BestPerComponent` of zeros and ones. The n candidates that pass a test are alike: each gets the
    test's weight times the probability that none of the other n - 1 is present, 1 / n for the
    Shapley value. O(K M).

    Attributes:
        weights: One weight per test. Default: 1.
    """

    domain = "vectors of zeros and ones, no longer than the weights"

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        no_others = torch.eye(1, rewards.shape[1], dtype=torch.float64)[0]
        alone = law.expected(no_others).to(rewards.device)
        passing = rewards.sum(dim=1).long().clamp(min=1)
        return self.ranking(rewards * alone[passing - 1].unsqueeze(1))

    def allows(self, rewards: Tensor) -> Tensor:
        return super().allows(rewards) & ((rewards == 0) | (rewards == 1))


def times_best(rewards: Tensor) -> Tensor:
    """Return (N, K): the number of components at which a candidate of (N, K, M) is the best of its
    set. Of equals each counts, and where no reward is above 0 nobody does.
    """
    best = rewards.amax(dim=1, keepdim=True)
    return ((rewards == best) & (best > 0)).sum(dim=2)


def sort_columns(columns: Tensor) -> list[Tensor]:
    """Return the rows of (K, C) with each column sorted, ascending.

    A sorting network of whole rows: for short columns `torch.sort` takes several times as long.
    """
    rows = list(columns)
    for low, high in comparators(len(rows)):
        pair = rows[low], rows[high]
        rows[low], rows[high] = torch.minimum(*pair), torch.maximum(*pair)
    return rows


@lru_cache(maxsize=FEW)
def comparators(count: int) -> list[tuple[int, int]]:
    """Return the pairs of places that Batcher's odd-even merge sort (1968) compares, in order."""
    powers = [2**p for p in range((count - 1).bit_length())]
    return [
        (place, place + step)
        for size in powers
        for step in reversed(powers[: size.bit_length()])
        for first in range(step % size, count - step, 2 * step)
        for place in range(first, min(first + step, count - step))
        if place // (2 * size) == (place + step) // (2 * size)
    ]
