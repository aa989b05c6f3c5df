"""Allocators: how the utility of a set is shared out over its candidates."""

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.credit.inputs import check_rewards
from shape_grpo.credit.semivalues import Banzhaf, LeaveOneOut, Shapley
from shape_grpo.credit.utilities import Utility, make_utility
from shape_grpo.registry import Registry

Allocator = Callable[[Tensor, Tensor, Utility], Tensor]
"""``(rewards, mask, utility) -> shares`` (N, K), the arguments as `Utility` describes them."""

ALLOCATORS: Registry[Allocator] = Registry("allocator")
"""Name to function; `register_allocator` adds one."""

register_allocator = ALLOCATORS.register

ELEMENTS_IN_CACHE = 2**16
"""Rewards that a CPU computes with at once: float64 copies of more would leave its cache."""


@register_allocator("shapley")
def _shapley(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """The Shapley value: shares sum to U."""
    return utility.semivalue(rewards, mask, Shapley())


@register_allocator("banzhaf")
def _banzhaf(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """The Banzhaf value, scaled to sum to U; equal shares where it sums to 0."""
    values = utility.semivalue(rewards, mask, Banzhaf()).double().masked_fill(~mask, 0.0)
    total = values.sum(dim=1, keepdim=True)
    vanishes = total.abs() <= 1e-12 * values.abs().amax(dim=1, keepdim=True)
    shares = utility.value(rewards, mask).unsqueeze(1) * (values / total)
    return torch.where(vanishes, _uniform(rewards, mask, utility), shares)


@register_allocator("leave_one_out")
def _leave_one_out(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """U(all) - U(all but k): what the set would lose. The shares do not sum to U."""
    return utility.semivalue(rewards, mask, LeaveOneOut())


@register_allocator("uniform")
def _uniform(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """The same share for all."""
    value = utility.value(rewards, mask).unsqueeze(1)
    return mask * (value / mask.sum(dim=1, keepdim=True).clamp(min=1))


@register_allocator("winner_takes_all")
def _winner_takes_all(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """All to the candidate that ranks highest; candidates that tie for it share equally."""
    ranking = utility.ranking(rewards).masked_fill(~mask, -math.inf)
    winners = mask & (ranking == ranking.amax(dim=1, keepdim=True))
    value = utility.value(rewards, mask).unsqueeze(1)
    return winners * (value / winners.sum(dim=1, keepdim=True).clamp(min=1))


@torch.no_grad()
def allocate(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
) -> Tensor:
    """Share out the utility of each set over its candidates.

    Args:
        rewards: (N, K) candidate rewards of either sign, one row a set, or (N, K, M) vectors for
            ``coverage``; `check_rewards` says which types are accepted.
        mask: (N, K), true where there is a candidate, in any columns. Default: everywhere. What
            stands elsewhere in ``rewards`` is not read.
        utility: A name in `UTILITIES`, or `make_utility` of one with options.
        allocator: A name in `ALLOCATORS`.

    Returns:
        Shares (N, K) in the floating type of ``rewards``, without gradient; 0 where there is no
        candidate.

    Raises:
        ValueError: An unknown name, shapes that do not fit, or a reward that is not allowed.
    """
    share_out, game = ALLOCATORS.find(allocator), make_utility(utility)
    rewards, mask = check_rewards(rewards, mask, game)
    return share_checked(rewards, mask, game, share_out)


def share_checked(rewards: Tensor, mask: Tensor, game: Utility, share_out: Allocator) -> Tensor:
    """`allocate` of what `check_rewards` returned."""
    if not rewards.numel():
        return rewards.new_zeros(mask.shape)
    shares = torch.empty_like(mask, dtype=rewards.dtype)
    at_once = ELEMENTS_IN_CACHE if rewards.device.type == "cpu" else rewards.numel()
    rows = max(at_once * len(rewards) // rewards.numel(), 1)
    pieces = zip(shares.split(rows), rewards.split(rows), mask.split(rows), strict=True)
    for part, of_part, present in pieces:
        part.copy_(share_out(of_part, present, game)).masked_fill_(~present, 0.0)
    return shares


def shapley_values(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
) -> Tensor:
    """Shapley values (N, K) of each set's candidates: `allocate` with allocator ``shapley``."""
    return allocate(rewards, mask, utility=utility, allocator="shapley")


@torch.no_grad()
def set_utility(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
) -> Tensor:
    """Utility (N,) of each set, 0 for a set without candidates; arguments as for `allocate`."""
    game = make_utility(utility)
    rewards, mask = check_rewards(rewards, mask, game)
    return value_checked(rewards, mask, game)


def value_checked(rewards: Tensor, mask: Tensor, game: Utility) -> Tensor:
    """`set_utility` of what `check_rewards` returned."""
    if not rewards.numel():
        return rewards.new_zeros(len(rewards))
    return game.value(rewards, mask).to(rewards.dtype)
