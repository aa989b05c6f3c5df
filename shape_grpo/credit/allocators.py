"""Allocators: how the utility of a set is shared out over its candidates."""

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.credit.inputs import check_rewards
from shape_grpo.credit.registry import Registry
from shape_grpo.credit.utilities import UTILITIES, Utility

Allocator = Callable[[Tensor, Tensor, Utility], Tensor]
"""``(rewards, mask, utility) -> shares``, all (N, K), as `Utility` describes its arguments."""

ALLOCATORS: Registry[Allocator] = Registry("allocator")
"""Name to function; `register_allocator` adds one."""

register_allocator = ALLOCATORS.register


@register_allocator("shapley")
def _shapley(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    return utility.shapley(rewards, mask)


@register_allocator("uniform")
def _uniform(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """The same share for all."""
    value = utility.value(rewards, mask).unsqueeze(1)
    return mask * (value / mask.sum(dim=1, keepdim=True).clamp(min=1))


@register_allocator("winner_takes_all")
def _winner_takes_all(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """All to the candidate with the highest reward; candidates that tie for it share equally."""
    best = rewards.masked_fill(~mask, -math.inf).amax(dim=1, keepdim=True)
    winners = mask & (rewards == best)
    value = utility.value(rewards, mask).unsqueeze(1)
    return winners * (value / winners.sum(dim=1, keepdim=True).clamp(min=1))


@torch.no_grad()
def allocate(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str = "max",
    allocator: str = "shapley",
) -> Tensor:
    """Share out the utility of each set over its candidates.

    Args:
        rewards: (N, K) candidate rewards of either sign, one row a set; `check_rewards` says which
            types are accepted.
        mask: (N, K), true where there is a candidate, in any columns. Default: everywhere. What
            stands elsewhere in ``rewards`` is not read.
        utility: A name in `UTILITIES`.
        allocator: A name in `ALLOCATORS`.

    Returns:
        Shares (N, K) in the floating type of ``rewards``, without gradient; 0 where there is no
        candidate.

    Raises:
        ValueError: An unknown name, shapes that do not fit, or a NaN or infinite reward.
    """
    share_out, game = ALLOCATORS.find(allocator), UTILITIES.find(utility)()
    rewards, mask = check_rewards(rewards, mask)
    if not rewards.numel():
        return rewards
    return share_out(rewards, mask, game).to(rewards.dtype).masked_fill(~mask, 0.0)


def shapley_values(
    rewards: Tensor | ArrayLike, mask: Tensor | ArrayLike | None = None, *, utility: str = "max"
) -> Tensor:
    """Shapley values (N, K) of each set's candidates: `allocate` with allocator ``shapley``."""
    return allocate(rewards, mask, utility=utility, allocator="shapley")


@torch.no_grad()
def set_utility(
    rewards: Tensor | ArrayLike, mask: Tensor | ArrayLike | None = None, *, utility: str = "max"
) -> Tensor:
    """Utility (N,) of each set, 0 for a set without candidates; arguments as for `allocate`."""
    game = UTILITIES.find(utility)()
    rewards, mask = check_rewards(rewards, mask)
    if not rewards.numel():
        return rewards.new_zeros(len(rewards))
    return game.value(rewards, mask).to(rewards.dtype)
