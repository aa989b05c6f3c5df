"""Utilities of the sorted rewards: max, sum, mean, the m best, and any weights on the ranks.

The closed forms and their proofs: README.md in this folder.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shape_grpo.credit.semivalues import Semivalue
from shape_grpo.credit.utilities import Utility, register_utility


class OrderedUtility(Utility):
    """U(S) = sum over i of w_i times the i-th best reward of S. U(empty) = 0.

    Ascending r_(1)..r_(K) with r_(0) = 0, the step r_(l) - r_(l-1) is a utility of its own: the
    n = K - l + 1 candidates that reach it get w_1 + .. + w_s together if s of them are there. They
    share it equally, so that phi_(j) = sum over l <= j of (r_(l) - r_(l-1)) E[w_(1 + s)], with s of
    the n - 1 others present; for the Shapley value (w_1 + .. + w_n) / n. O(K log K); right for
    rewards of either sign. For the max it is the airport game of Littlechild and Owen (1973).
    """

    @abstractmethod
    def rank_weights(self, count: int) -> Tensor:
        """w_1..w_count, float64."""

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        ordered = rewards.masked_fill(~mask, -math.inf).sort(dim=1, descending=True).values
        weights = self.rank_weights(rewards.shape[1]).to(rewards.device)
        present = torch.arange(len(weights), device=rewards.device) < mask.sum(dim=1, keepdim=True)
        return (ordered.masked_fill(~present, 0.0) * weights).sum(dim=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        count = rewards.shape[1]
        step_shares = law.expected(self.rank_weights(count)).to(rewards.device)
        # Empty columns first, so that column c is reached by count - c candidates in every row.
        ordered, order = rewards.masked_fill(~mask, -math.inf).sort(dim=1)
        ordered.masked_fill_(ordered == -math.inf, 0.0)
        # Steps cancel in the sum, hence float64.
        steps = ordered.to(torch.float64, copy=True)
        steps[:, 1:] -= ordered[:, :-1]
        steps *= step_shares.flip(0)
        return torch.empty_like(steps).scatter_(1, order, steps.cumsum(dim=1))


@register_utility("max")
class Max(OrderedUtility):
    """U(S) = max of r over S: the user takes the best. U(empty) = 0."""

    def rank_weights(self, count: int) -> Tensor:
        return torch.eye(1, count, dtype=torch.float64)[0]

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        best = rewards.masked_fill(~mask, -math.inf).amax(dim=1)
        return best.masked_fill(~mask.any(dim=1), 0.0)


@register_utility("owa")
@dataclass
class OrderedWeightedAverage(OrderedUtility):
    """U(S) = sum over i of w_i times the i-th best reward of S (Yager, 1988). U(empty) = 0.

    Attributes:
        weights: w_1, w_2, ...; 0 beyond them. A set of fewer candidates uses the first.
    """

    weights: Sequence[float]

    def __post_init__(self) -> None:
        self.weights = [float(weight) for weight in self.weights]
        if not self.weights or not all(map(math.isfinite, self.weights)):
            raise ValueError(f"utility 'owa' needs finite weights, not {self.weights}")

    def rank_weights(self, count: int) -> Tensor:
        given = torch.tensor(self.weights[:count], dtype=torch.float64)
        return torch.nn.functional.pad(given, (0, count - len(given)))


@register_utility("top_m")
@dataclass
class TopM(OrderedUtility):
    """U(S) = the sum of the m best rewards of S, or their mean. U(empty) = 0.

    The mean is over min(m, |S|) rewards. Against the sum divided by min(m, K) it differs for sets
    smaller than m, where it is the plain mean, so a candidate's value changes by
    (e - P(s < m) / m) r_k - (e - P(s = 0)) times the mean of the other rewards, with s of the K - 1
    others present and e = E[1 / (s + 1); s < m]. O(K log K).

    Attributes:
        m: How many, 1 or more.
        average: Whether to take the mean.
    """

    m: int
    average: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.m, int) or self.m < 1:
            raise ValueError(f"utility 'top_m' needs m to be a whole number above 0, not {self.m}")

    def rank_weights(self, count: int) -> Tensor:
        return (torch.arange(count) < self.m).double()

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        value = super().value(rewards, mask)
        return value / self._divisor(mask) if self.average else value

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        values = super().semivalue(rewards, mask, law)
        if not self.average:
            return values
        values = values / self._divisor(mask).unsqueeze(1)
        return values + mean_of_small_sets(rewards, mask, law, self.m)

    def _divisor(self, mask: Tensor) -> Tensor:
        return mask.sum(dim=1).clamp(min=1, max=self.m)


@register_utility("sum")
class Sum(Utility):
    """U(S) = the sum of r over S; any semivalue is the reward itself. U(empty) = 0."""

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return rewards.double().sum(dim=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        return rewards


@register_utility("mean")
class Mean(Utility):
    """U(S) = the mean of r over S. U(empty) = 0.

    phi_k = E[1 / (s + 1)] r_k - (E[1 / (s + 1)] - P(s = 0)) times the mean of the other rewards,
    with s of the K - 1 others present; for the Shapley value E[1 / (s + 1)] = (1 + 1/2 + .. + 1/K)
    / K and P(s = 0) = 1 / K. Below 0 for a candidate that lowers the mean by more than it brings to
    the empty set. O(K).
    """

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return rewards.double().sum(dim=1) / mask.sum(dim=1).clamp(min=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        counts = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return rewards / counts + mean_of_small_sets(rewards, mask, law, m=rewards.shape[1])


def mean_of_small_sets(rewards: Tensor, mask: Tensor, law: Semivalue, m: int) -> Tensor:
    """Return the change of a semivalue (N, K) if sets smaller than min(m, K) are worth their mean,
    not their sum divided by min(m, K); `TopM` has the formula.
    """
    sizes = torch.arange(rewards.shape[1], dtype=torch.float64)
    counts = mask.sum(dim=1, keepdim=True).clamp(min=1)

    def expected(gains: Tensor) -> Tensor:
        return law.expected(gains.double()).to(rewards.device)[counts - 1]

    small = expected(sizes < m)
    inverse = expected((sizes < m) / (sizes + 1))
    rewards = rewards.double()
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (counts - 1).clamp(min=1)
    return (inverse - small / counts.clamp(max=m)) * rewards - (
        inverse - expected(sizes == 0)
    ) * others
