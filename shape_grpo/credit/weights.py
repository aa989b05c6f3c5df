"""From shares to credit weights: how many times its GRPO credit a candidate's token gets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from shape_grpo.credit.allocators import make_allocator, share_checked, value_checked
from shape_grpo.credit.utilities import Utility, make_utility

NO_REWARD = 1e-8
"""A set whose utility is smaller than this in magnitude has nothing to share: all weights are 1."""


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
    shares = share_checked(rewards, mask, game, share_out)
    values = value_checked(rewards, mask, game)
    candidates = mask.sum(dim=1, keepdim=True).to(rewards.dtype)

    paid, per_share = mask, candidates.expand_as(shares)
    if length_correction:
        paid = mask & (lengths > 0)
        lengths = lengths.masked_fill(~paid, 0).to(rewards.dtype)
        per_share = torch.where(paid, lengths.sum(dim=1, keepdim=True) / lengths, candidates)

    payable, value = shares, values.unsqueeze(1)
    if (rewards < 0).any():
        shifted = _without_negatives(rewards, mask)
        payable = share_checked(shifted, mask, game, share_out)
        values = value_checked(shifted, mask, game)
        value = values.unsqueeze(1)
    if length_correction:
        value = value - payable.masked_fill(paid, 0.0).sum(dim=1, keepdim=True)
    weights = payable / value * per_share
    weights = weights.masked_fill(~paid | (value.abs() < NO_REWARD), 1.0)
    if allocator == "uniform":
        weights = torch.ones_like(weights)
    return Split(weights, values, shares * per_share / candidates)


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
