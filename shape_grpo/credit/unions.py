"""Utilities of what at least one candidate achieves: success, or tests passed.

The closed forms and their proofs: recipe/shape_grpo/docs/credit.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shape_grpo.credit.semivalues import Semivalue
from shape_grpo.credit.utilities import Utility, register_utility


@register_utility("noisy_or")
class NoisyOr(Utility):
    """U(S) = 1 - product over S of (1 - p): the chance that at least one of several independent
    successes happens. U(empty) = 0.

    If each other candidate is present with probability t, k adds p_k times the product over the
    others of (1 - t p_j) on average (Owen, 1972): a polynomial in t of degree K - 1, so that K / 2
    nodes of Gauss and Legendre give its mean exactly. O(K^2) for the Shapley value, O(K) for the
    others.
    """

    domain = "probabilities, 0 to 1"

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return 1 - (1 - rewards.double()).prod(dim=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        chances = rewards.double()
        values = torch.zeros_like(chances)
        for t, weight in zip(*law.nodes(rewards.shape[1] - 1), strict=True):
            values += weight * _product_of_others(1 - t * chances)
        return values * chances

    def allows(self, rewards: Tensor) -> Tensor:
        return (rewards >= 0) & (rewards <= 1)


def _product_of_others(factors: Tensor) -> Tensor:
    """(N, K): the product of a row without each column; no division, as factors may be 0."""
    ones = factors.new_ones(len(factors), 1)
    before = torch.cat([ones, factors[:, :-1]], dim=1).cumprod(dim=1)
    after = torch.cat([ones, factors[:, 1:].flip(1)], dim=1).cumprod(dim=1).flip(1)
    return before * after


@register_utility("coverage")
@dataclass
class Coverage(Utility):
    """U(S) = total weight of the tests (topics, ...) that at least one candidate of S passes.
    U(empty) = 0.

    A candidate's reward is a vector of zeros and ones, one a test; where vectors differ in length,
    the shorter passes none of the rest. The union is a sum of one game a
    test, in which the n candidates that pass it are alike: each gets the test's weight times the
    probability that none of the other n - 1 is present, 1 / n for the Shapley value. O(K M).

    Attributes:
        weights: One a test. Default: 1 each.
    """

    weights: Sequence[float] | None = None

    takes_vectors = True
    domain = "vectors of zeros and ones, no longer than the weights"

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        self.weights = [float(weight) for weight in self.weights]
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights):
            raise ValueError(f"utility 'coverage' needs weights of 0 and more, not {self.weights}")

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        return (rewards.amax(dim=1) * self._weights(rewards)).sum(dim=1)

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        nobody = torch.eye(1, rewards.shape[1], dtype=torch.float64)[0]
        alone = law.expected(nobody).to(rewards.device)
        passing = rewards.sum(dim=1).long().clamp(min=1)
        return self.ranking(rewards * alone[passing - 1].unsqueeze(1))

    def ranking(self, rewards: Tensor) -> Tensor:
        """(N, K): the weight of all tests that a candidate passes."""
        return (rewards * self._weights(rewards)).sum(dim=2)

    def allows(self, rewards: Tensor) -> Tensor:
        few_enough = self.weights is None or rewards.shape[-1] <= len(self.weights)
        return ((rewards == 0) | (rewards == 1)) & few_enough

    def _weights(self, rewards: Tensor) -> Tensor:
        tests = rewards.shape[2]
        if self.weights is None:
            return rewards.new_ones(tests, dtype=torch.float64)
        return torch.tensor(self.weights[:tests], dtype=torch.float64, device=rewards.device)
