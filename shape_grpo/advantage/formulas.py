"""Advantage formulas: the advantage of each candidate, from shares and the GRPO advantage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from shape_grpo.advantage.statistics import group_lowest, group_mean_std
from shape_grpo.credit import Shares, Split, compute_shares
from shape_grpo.credit.sets import allocate_checked
from shape_grpo.credit.weights import NO_REWARD
from shape_grpo.registry import Registry

if TYPE_CHECKING:
    from shape_grpo.advantage.method import Method

NO_SPREAD = 1e-6
"""Standard deviation below which a group teaches nothing: a difference within it would be divided
by almost nothing."""


@dataclass(frozen=True)
class Credit:
    """Inputs of an advantage formula, in float64.

    Attributes:
        method: Utility, allocator and normalisation.
        rewards: (N, K), or (N, K, M) in the type that they came in; 0 where there is no candidate.
        mask: (N, K) bool, True where there is a candidate.
        lengths: (N, K) tokens of each candidate.
        group: (N,) group numbers of responses.
        advantages: (N,) their GRPO advantages A_i.
        std: (N,) standard deviations of their groups.
        known_shares: Shares of these rewards, where the caller has them already.
    """

    method: Method
    rewards: Tensor
    mask: Tensor
    lengths: Tensor
    group: Tensor
    advantages: Tensor
    std: Tensor
    known_shares: Shares | None = None

    @cached_property
    def split(self) -> Split:
        """Credit weights, utilities and shares of the N sets."""
        return self.method.weigh(self.shares, self.mask, self.lengths)

    @cached_property
    def shares(self) -> Shares:
        """Split of the utilities of the N sets, whatever the lengths."""
        method = self.method
        return self.known_shares or compute_shares(
            self.rewards, self.mask, method.utility, method.allocator, torch.float64
        )

    @cached_property
    def counts(self) -> Tensor:
        """(N, K) float64: how many times a candidate counts in the mean over its response: once,
        or with ``length_correction`` once per token.
        """
        if self.method.length_correction:
            return self.lengths.masked_fill(~self.mask, 0).double()
        return self.mask.double()

    def allocate(self, rewards: Tensor) -> Tensor:
        """Return the shares (N, K) of other rewards of the same candidates."""
        method = self.method
        return allocate_checked(rewards, self.mask, method.utility, method.allocator, torch.float64)

    def normalized(self, differences: Tensor, std: Tensor) -> Tensor:
        """Return differences to a mean over std + epsilon if ``norm_by_std``, and 0 where std is
        below `NO_SPREAD`.
        """
        if self.method.norm_by_std:
            differences = differences / (std + self.method.epsilon)
        return differences.masked_fill(std < NO_SPREAD, 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """Return (N, 1): the mean of (N, K) values over the candidates of each response."""
        total = (values * self.counts).sum(dim=1, keepdim=True)
        return total / self.counts.sum(dim=1, keepdim=True).clamp(min=1)

    def pool_mean_std(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, K) each: mean and standard deviation of (N, K) values over all candidates of
        the group.
        """
        group = self.group.unsqueeze(1).expand_as(values)[self.mask]
        alone = (torch.bincount(self.group)[group] == 1) & (torch.bincount(group)[group] == 1)
        statistics = group_mean_std(values[self.mask], group, torch.ones_like(alone), alone)
        mean, std = (torch.zeros_like(values).masked_scatter(self.mask, x) for x in statistics)
        return mean, std

    def shares_above_lowest(self, *, before: bool) -> Tensor:
        """Return the shares (N, K) less those of the group's lowest reward, which earns no credit:
        it is taken off the rewards, or (not ``before``) its shares off the shares. Under a utility
        that reads texts no reward can be taken off, and the shares are as they are.
        """
        if self.method.utility.takes_texts:
            return self.shares.shares
        if before:
            return self.allocate(self.rewards - self.lowest())
        return self.shares.shares - self.allocate(self.lowest())

    def lowest(self) -> Tensor:
        """Return the lowest reward of the group for each candidate; of vectors, the lowest of each
        component.
        """
        return group_lowest(self.rewards, self.mask, self.group)


Advantage = Callable[[Credit], Tensor]
"""Function that returns the advantages (N, K) of candidates; undefined where the mask is False."""

ADVANTAGES: Registry[Advantage] = Registry("advantage")
"""Name to function; `register_advantage` adds one."""

register_advantage = ADVANTAGES.register


@register_advantage("reweight")
def _reweight(credit: Credit) -> Tensor:
    """w_ik * A_i: ShapE-GRPO as a reweighting of GRPO, Proposition 4.1 of arXiv 2603.29871. It
    blames the best candidate of a poor set most.
    """
    return credit.split.weights * credit.advantages.unsqueeze(1)


@register_advantage("reweight_positive")
def _reweight_positive(credit: Credit) -> Tensor:
    """w_ik * A_i if A_i > 0, else A_i: praise by share, blame evenly. Not from the paper."""
    advantages = credit.advantages.unsqueeze(1)
    return torch.where(advantages > 0, credit.split.weights * advantages, advantages)


@register_advantage("normalize")
def _normalize(credit: Credit) -> Tensor:
    """(w_ik * R_i - mean) / (std + epsilon) = A_i + (w_ik - 1) * R_i / (std + epsilon): the reward
    is split first, then normalised as in GRPO.

    R_i is the utility that w_ik splits, of rewards without negative ones: else the best candidate
    of a set would get most of a negative sum.
    """
    extra = (credit.split.weights - 1) * credit.split.values.unsqueeze(1)
    extra = credit.normalized(extra, credit.std.unsqueeze(1).expand_as(extra))
    advantages = credit.advantages.masked_fill(credit.std < NO_SPREAD, 0.0)
    return advantages.unsqueeze(1) + extra


@register_advantage("pooled")
def _pooled(credit: Credit) -> Tensor:
    """(phi_ik - mean) / (std + epsilon) over all candidates of the group: the shares as they are,
    normalised.
    """
    mean, std = credit.pool_mean_std(credit.split.shares)
    return credit.normalized(credit.split.shares - mean, std)


@register_advantage("contrast")
def _contrast(credit: Credit) -> Tensor:
    """A_i + (psi_ik - mean of psi over the response) / (std of psi over the group + epsilon): GRPO
    between sets, credit within a set. Not from the paper.

    psi is the share of the rewards as they are, less what it would be if every candidate had the
    lowest reward of the group: one number for all sets of one size, so it matters to the standard
    deviation alone, and there only in a group of sets of different size.

    The token mean over a response's candidates is A_i at equal lengths, or at any with
    ``length_correction``, under every utility and allocator. A constant added to all rewards
    changes nothing but A_i if the allocator is a semivalue that is not scaled (not ``banzhaf``,
    ``winner_takes_all``) and the constant changes U by the size of the set alone (not
    ``noisy_or``); the same holds, but for epsilon, for a factor that is a factor of U
    too.
    """
    psi = credit.shares_above_lowest(before=False)
    _, std = credit.pool_mean_std(psi)
    within = credit.normalized(psi - credit.mean(psi), std)
    return credit.advantages.unsqueeze(1) + within.masked_fill(credit.counts == 0, 0.0)


@register_advantage("praise")
def _praise(credit: Credit) -> Tensor:
    """A_i * psi_ik / (mean of psi over the response) if A_i > 0, else A_i, where psi are the shares
    of the rewards less the group's lowest: praise by share, blame evenly, under any allocator. Not
    from the paper.

    The group's lowest reward earns no credit. Where psi is below 0, for a candidate that harms its
    set as under ``mean`` or ``softmax``, it counts as 0: no candidate is paid against its
    response's sign. Where its mean is below `NO_REWARD` all get A_i.

    The token mean over a response's candidates is A_i at equal lengths, or at any with
    ``length_correction``, and a constant added to all rewards changes nothing but A_i, under every
    utility and allocator; the same holds, but for the limits, for a factor that is
    a factor of U too.
    """
    psi = credit.shares_above_lowest(before=True).clamp(min=0)
    mean = credit.mean(psi)
    weights = (psi / mean).masked_fill((mean < NO_REWARD) | (credit.counts == 0), 1.0)
    advantages = credit.advantages.unsqueeze(1)
    return torch.where(advantages > 0, weights * advantages, advantages)
