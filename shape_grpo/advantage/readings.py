"""Readings: what a set's shares and its GRPO advantage make of the advantage of each candidate."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from shape_grpo.advantage.statistics import group_lowest, group_mean_std
from shape_grpo.credit import Shares, Split
from shape_grpo.credit.weights import NO_REWARD
from shape_grpo.registry import Registry

NO_SPREAD = 1e-6
"""Below this standard deviation there is nothing to learn from a group: a difference within it
would be divided by almost nothing."""


@dataclass(frozen=True)
class Credit:
    """What a reading works from, in float64.

    Attributes:
        rewards: (N, K), or (N, K, M) in the type that they came in; 0 where there is no candidate.
        mask: (N, K) where there is a candidate.
        tokens: (N, K) how many times a candidate counts in the mean over those of its response:
            once, or with ``length_correction`` once a token.
        make_shares: Computes `shares`, which not every reading needs.
        weigh: `split` from `shares`.
        share_out: The shares (N, K) psi of other rewards of the same candidates.
        group: (N,) group numbers of responses.
        advantages: (N,) their GRPO advantages A_i.
        std: (N,) standard deviations of their groups.
        norm_by_std: Whether to divide by std + epsilon.
        epsilon: As in verl.
    """

    rewards: Tensor
    mask: Tensor
    tokens: Tensor
    make_shares: Callable[[], Shares]
    weigh: Callable[[Shares], Split]
    share_out: Callable[[Tensor], Tensor]
    group: Tensor
    advantages: Tensor
    std: Tensor
    norm_by_std: bool
    epsilon: float

    @cached_property
    def shares(self) -> Shares:
        """How the utilities of the N sets are shared out, whatever the candidates' lengths."""
        return self.make_shares()

    @cached_property
    def split(self) -> Split:
        """Credit weights, utilities and shares of the N sets."""
        return self.weigh(self.shares)

    def normalized(self, differences: Tensor, std: Tensor) -> Tensor:
        """Differences to a mean, over std + epsilon if ``norm_by_std``; 0 where std is below
        `NO_SPREAD`.
        """
        if self.norm_by_std:
            differences = differences / (std + self.epsilon)
        return differences.masked_fill(std < NO_SPREAD, 0.0)

    def mean(self, values: Tensor) -> Tensor:
        """(N, 1): mean of (N, K) values over the candidates of each response."""
        total = (values * self.tokens).sum(dim=1, keepdim=True)
        return total / self.tokens.sum(dim=1, keepdim=True).clamp(min=1)

    def pool_mean_std(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K) each: mean and standard deviation of (N, K) values over all candidates of the
        group.
        """
        group = self.group.unsqueeze(1).expand_as(values)[self.mask]
        alone = (torch.bincount(self.group)[group] == 1) & (torch.bincount(group)[group] == 1)
        statistics = group_mean_std(values[self.mask], group, torch.ones_like(alone), alone)
        mean, std = (torch.zeros_like(values).masked_scatter(self.mask, x) for x in statistics)
        return mean, std

    def lowest(self) -> Tensor:
        """The lowest reward of the group in the place of each candidate's; of vectors, the lowest
        of each component.
        """
        return group_lowest(self.rewards, self.mask, self.group)


Reading = Callable[[Credit], Tensor]
"""The advantages (N, K) of candidates; unread where there is no candidate."""

READINGS: Registry[Reading] = Registry("advantage")
"""Name to function; `register_reading` adds one."""

register_reading = READINGS.register


@register_reading("reweight")
def _reweight(credit: Credit) -> Tensor:
    """w_ik * A_i: ShapE-GRPO as a reweighting of GRPO, Proposition 4.1 of arXiv 2603.29871. It
    blames the best candidate of a poor set most.
    """
    return credit.split.weights * credit.advantages.unsqueeze(1)


@register_reading("reweight_positive")
def _reweight_positive(credit: Credit) -> Tensor:
    """w_ik * A_i if A_i > 0, else A_i: praise by share, blame evenly. Not from the paper."""
    advantages = credit.advantages.unsqueeze(1)
    return torch.where(advantages > 0, credit.split.weights * advantages, advantages)


@register_reading("normalize")
def _normalize(credit: Credit) -> Tensor:
    """(w_ik * R_i - mean) / (std + epsilon) = A_i + (w_ik - 1) * R_i / (std + epsilon): the reward
    is allotted, then normalised as GRPO does.

    R_i is the utility that w_ik shares out, without negative rewards: else the best candidate of a
    set would be allotted most of a negative sum.
    """
    extra = (credit.split.weights - 1) * credit.split.values.unsqueeze(1)
    extra = credit.normalized(extra, credit.std.unsqueeze(1).expand_as(extra))
    advantages = credit.advantages.masked_fill(credit.std < NO_SPREAD, 0.0)
    return advantages.unsqueeze(1) + extra


@register_reading("pooled")
def _pooled(credit: Credit) -> Tensor:
    """(phi_ik - mean) / (std + epsilon) over all candidates of the group: the shares as they are,
    normalised.
    """
    mean, std = credit.pool_mean_std(credit.split.shares)
    return credit.normalized(credit.split.shares - mean, std)


@register_reading("contrast")
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
    ``noisy_or``); nor does a factor, but for epsilon, if it is a factor of U too.
    """
    psi = credit.shares.shares - credit.share_out(credit.lowest())
    _, std = credit.pool_mean_std(psi)
    within = credit.normalized(psi - credit.mean(psi), std)
    return credit.advantages.unsqueeze(1) + within.masked_fill(credit.tokens == 0, 0.0)


@register_reading("praise")
def _praise(credit: Credit) -> Tensor:
    """A_i * psi_ik / (mean of psi over the response) if A_i > 0, else A_i: praise by share, blame
    evenly, under any allocator. Not from the paper.

    psi is the share of the rewards less the lowest reward of the group, which earns nobody credit.
    Below 0, for a candidate that harms its set as under ``mean`` or ``softmax``, it counts as 0: no
    candidate is paid against its response's sign. Where its mean is below `NO_REWARD` all get A_i.

    The token mean over a response's candidates is A_i at equal lengths, or at any with
    ``length_correction``, and a constant added to all rewards changes nothing but A_i, under every
    utility and allocator; nor does a factor, but for the limits, if it is a factor of U too.
    """
    psi = credit.share_out(credit.rewards - credit.lowest()).clamp(min=0)
    mean = credit.mean(psi)
    weights = (psi / mean).masked_fill((mean < NO_REWARD) | (credit.tokens == 0), 1.0)
    advantages = credit.advantages.unsqueeze(1)
    return torch.where(advantages > 0, weights * advantages, advantages)
