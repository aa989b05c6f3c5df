"""From shares to credit weights: how many times its GRPO credit a candidate's token gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shape_grpo.credit.allocators import (
    Allocator,
    make_allocator,
    share_checked,
    value_checked,
)
from shape_grpo.credit.utilities import Utility, make_utility

NO_REWARD = 1e-8
"""A set whose utility is smaller than this in magnitude has nothing to share: all weights are 1."""


@dataclass(frozen=True)
class Shares:
    """How the utility of each of N sets is shared out, whatever the lengths of its K candidates.

    Attributes:
        shares: (N, K) of the rewards as they are; unread where there is no candidate.
        payable: (N, K) of the rewards shifted up by the lowest of the set, if that is negative.
        values: (N,) the utilities that ``payable`` shares out.
    """

    shares: Tensor
    payable: Tensor
    values: Tensor

    def select(self, rows: Tensor | slice) -> Shares:
        """Those of some of the sets."""
        return Shares(self.shares[rows], self.payable[rows], self.values[rows])


@dataclass(frozen=True)
class Split:
    """How the utility of each of N sets is paid out to the tokens of its K candidates.

    Attributes:
        weights: (N, K); unread, like the shares, where there is no candidate.
        values: (N,) the utilities that the weights are relative to.
        shares: (N, K) of the rewards as they are, not shifted; with ``length_correction``
            phi_k * L / (K * l_k), the share of a candidate of average length that is paid as much
            a token.
    """

    weights: Tensor
    values: Tensor
    shares: Tensor


@torch.no_grad()
def split_utility(
    rewards: Tensor,
    mask: Tensor,
    lengths: Tensor,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
    allocator_options: Mapping[str, Any] | None = None,
    length_correction: bool = False,
) -> Split:
    """Shares, and the weights that follow from them.

    With shares phi_k of the utility R of K candidates, of l_k tokens each and L in total, the
    weight is K * phi_k / R, or with ``length_correction`` phi_k * L / (l_k * R), whose average
    over the tokens of the candidates is 1 if the shares sum to R. All weights are 1 where
    |R| < `NO_REWARD`, and for the allocator ``uniform``, which is GRPO at any lengths.

    A negative reward would let weights change sign, so for the weights the rewards of a response
    are first shifted up by the lowest of them, if that is negative. A weight is still negative
    where a candidate's share is: under utilities that a candidate can harm, like the mean.

    A candidate without tokens still counts as a rival in the shares, and in K. With
    ``length_correction``, which pays by the token, its share cannot be paid: it is taken off R, so
    that the average stays 1, and its own weight, which no token sees, is 1.

    Args:
        rewards: (N, K) or (N, K, M) floating, as `check_rewards` returns them.
        mask: (N, K) bool.
        lengths: (N, K) tokens of each candidate; not read outside the mask.
        utility: A name in `UTILITIES`, or a `Utility`.
        allocator: A name in `ALLOCATORS`.
        allocator_options: Its options.
        length_correction: Whether to divide a share by the candidate's part of the tokens.
    """
    game, share_out = make_utility(utility), make_allocator(allocator, **allocator_options or {})
    shares = share_sets(rewards, mask, game, share_out)
    return weigh_shares(
        shares, mask, lengths, allocator=allocator, length_correction=length_correction
    )


def share_sets(
    rewards: Tensor,
    mask: Tensor,
    game: Utility,
    share_out: Allocator,
    dtype: torch.dtype | None = None,
) -> Shares:
    """The part of `split_utility` that needs no lengths, in ``dtype`` if it is given."""
    shares = share_checked(rewards, mask, game, share_out, dtype)
    payable = shares
    if (rewards < 0).any():
        rewards = _without_negatives(rewards, mask)
        payable = share_checked(rewards, mask, game, share_out, dtype)
    return Shares(shares, payable, value_checked(rewards, mask, game, dtype))


def weigh_shares(
    shares: Shares, mask: Tensor, lengths: Tensor, *, allocator: str, length_correction: bool
) -> Split:
    """The rest of `split_utility`, which describes the arguments."""
    payable, value = shares.payable, shares.values.unsqueeze(1)
    candidates = mask.sum(dim=1, keepdim=True).to(payable.dtype)
    if not length_correction:
        weights = payable / value * candidates
        corrected, unpaid = shares.shares, ~mask
    else:
        paid = mask & (lengths > 0)
        lengths = lengths.masked_fill(~paid, 0).to(payable.dtype)
        per_share = torch.where(paid, lengths.sum(dim=1, keepdim=True) / lengths, candidates)
        value = value - payable.masked_fill(paid, 0.0).sum(dim=1, keepdim=True)
        weights = payable / value * per_share
        corrected, unpaid = shares.shares * per_share / candidates, ~paid
    weights = weights.masked_fill(unpaid | (value.abs() < NO_REWARD), 1.0)
    if allocator == "uniform":
        weights = torch.ones_like(weights)
    return Split(weights, shares.values, corrected)


def credit_weights(
    rewards: Tensor,
    mask: Tensor,
    lengths: Tensor,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
    allocator_options: Mapping[str, Any] | None = None,
    length_correction: bool = False,
) -> Tensor:
    """The weights (N, K) of `split_utility`, which describes the arguments."""
    return split_utility(
        rewards,
        mask,
        lengths,
        utility=utility,
        allocator=allocator,
        allocator_options=allocator_options,
        length_correction=length_correction,
    ).weights


def _without_negatives(rewards: Tensor, mask: Tensor) -> Tensor:
    """Each set shifted up by its lowest reward, if that is negative."""
    lowest = rewards.amin(dim=1, keepdim=True).clamp(max=0.0)
    return (rewards - lowest).masked_fill(~mask, 0.0)
