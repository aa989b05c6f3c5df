"""From shares to credit weights: a token's credit as a multiple of its GRPO credit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shape_grpo.credit.allocators import Allocator
from shape_grpo.credit.sets import allocate_checked, utility_checked
from shape_grpo.credit.utilities import Utility

NO_REWARD = 1e-8
"""A set whose utility is smaller than this has nothing to pay out: all weights are 1."""


@dataclass(frozen=True)
class Shares:
    """The split of the utility of each of N sets, whatever the lengths of its K candidates.

    Attributes:
        shares: (N, K) shares of the rewards as they are; undefined where there is no candidate.
        payable: (N, K) shares of the rewards shifted up by the set's lowest, if that is negative;
            under a utility that reads texts the shares are shifted.
        values: (N,) utilities that ``payable`` splits.
    """

    shares: Tensor
    payable: Tensor
    values: Tensor

    def select(self, rows: Tensor | slice) -> Shares:
        """Return the shares of the sets at ``rows``."""
        return Shares(self.shares[rows], self.payable[rows], self.values[rows])


@dataclass(frozen=True)
class Split:
    """The credit of the tokens of each of N sets of K candidates.

    Attributes:
        weights: (N, K); undefined, like the shares, where there is no candidate.
        values: (N,) utilities that the weights are relative to.
        shares: (N, K) shares of the rewards as they are, not shifted; with ``length_correction``
            phi_k * L / (K * l_k), the share of a candidate of average length that is paid as much
            per token.
    """

    weights: Tensor
    values: Tensor
    shares: Tensor


def compute_shares(
    rewards: Tensor,
    mask: Tensor,
    utility: Utility,
    allocator: Allocator,
    dtype: torch.dtype | None = None,
) -> Shares:
    """Compute the shares of N sets from what `check_rewards` returned; in ``dtype`` if given.

    A negative reward would let weights change sign. For the weights, the rewards of a set are
    therefore shifted up by its lowest reward, if that is negative.
    """
    shares = allocate_checked(rewards, mask, utility, allocator, dtype)
    payable = shares
    if rewards.numel() and rewards.amin() < 0:
        rewards = _without_negatives(rewards.to(shares.dtype), mask)
        payable = allocate_checked(rewards, mask, utility, allocator, dtype)
    return Shares(shares, payable, utility_checked(rewards, mask, utility, dtype))


def shift_shares(shares: Tensor, mask: Tensor, values: Tensor) -> Shares:
    """Return the split of utilities that read texts, whose rewards cannot be shifted.

    Args:
        shares: (N, K) shares, 0 where there is no candidate.
        mask: (N, K) bool, True where there is a candidate.
        values: (N,) utilities.
    """
    lowest = _lowest(shares)
    payable = (shares - lowest).masked_fill(~mask, 0.0)
    return Shares(shares, payable, values - mask.sum(dim=1) * lowest.squeeze(1))


def weigh_shares(
    shares: Shares,
    mask: Tensor,
    lengths: Tensor,
    *,
    allocator: Allocator,
    length_correction: bool,
) -> Split:
    """Compute credit weights from shares.

    With shares phi_k of the utility R of K candidates, of l_k tokens each and L in total, the
    weight is K * phi_k / R, or with ``length_correction`` phi_k * L / (l_k * R), whose average over
    the tokens of the candidates is 1 if the shares sum to R. All weights are 1 where R is below
    `NO_REWARD`, and for the allocator ``uniform``, which is GRPO at any lengths. A weight is
    negative where a candidate's share is: under utilities that a candidate can harm, like the mean.

    A candidate without tokens still counts as a rival in the shares, and in K. With
    ``length_correction``, which pays per token, its share cannot be paid: it is taken off R, so
    that the average stays 1, and its own weight, which no token sees, is 1.

    Args:
        shares: Shares of the N sets, from `compute_shares`.
        mask: (N, K) bool, True where there is a candidate.
        lengths: (N, K) tokens of each candidate; not read outside the mask.
        allocator: Allocator that the shares are from.
        length_correction: Whether to divide a share by the candidate's part of the tokens.
    """
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
    weights = weights.masked_fill(unpaid | (value < NO_REWARD), 1.0)
    if allocator.is_uniform:
        weights = torch.ones_like(weights)
    return Split(weights, shares.values, corrected)


def _without_negatives(rewards: Tensor, mask: Tensor) -> Tensor:
    """Return each set shifted up by its lowest reward, if that is negative; vectors component by
    component.
    """
    absent = ~mask if rewards.dim() == 2 else ~mask.unsqueeze(2)
    return (rewards - _lowest(rewards)).masked_fill(absent, 0.0)


def _lowest(numbers: Tensor) -> Tensor:
    """Return the lowest number of each set, 0 if that is positive."""
    if not numbers.shape[1]:
        return numbers.sum(dim=1, keepdim=True)
    return numbers.amin(dim=1, keepdim=True).clamp(max=0.0)
