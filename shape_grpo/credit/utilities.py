"""Set utilities: what a set of candidates is worth, and the Shapley values of that game."""

import math
from typing import Protocol

import torch
from torch import Tensor

from shape_grpo.credit.registry import Registry


class Utility(Protocol):
    """A permutation-invariant set utility U with U(no candidates) = 0.

    Both methods take floating ``rewards`` (N, K), K > 0, finite and 0 outside ``mask``, and a bool
    ``mask`` (N, K), true where there is a candidate.
    """

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """U of each row's candidates, (N,)."""
        ...

    def shapley(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """Exact Shapley values (N, K), in any floating type; not read outside the mask."""
        ...


UTILITIES: Registry[type[Utility]] = Registry("utility")
"""Name to class; `register_utility` adds one."""

register_utility = UTILITIES.register


@register_utility("max")
class Max:
    """U(S) = max of r over S."""

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        best = rewards.masked_fill(~mask, -math.inf).amax(dim=1)
        return best.masked_fill(~mask.any(dim=1), 0.0)

    def shapley(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """The airport game of Littlechild and Owen (1973), in O(K log K).

        Ascending r_(1)..r_(K) with r_(0) = 0: the candidates l..K share the step r_(l) - r_(l-1)
        equally, so phi_(j) = sum over l <= j of (r_(l) - r_(l-1)) / (K - l + 1).
        """
        ordered, order = rewards.masked_fill(~mask, math.inf).sort(dim=1)
        rank = torch.arange(rewards.shape[1], device=rewards.device)
        sharers = mask.sum(dim=1, keepdim=True) - rank
        # The steps cancel in the sum, hence float64. Those past the last candidate are inf - inf,
        # and reach nobody.
        steps = ordered.double().diff(dim=1, prepend=ordered.new_zeros(len(ordered), 1).double())
        steps /= sharers.clamp(min=1)
        return torch.empty_like(steps).scatter_(1, order, steps.cumsum(dim=1))
