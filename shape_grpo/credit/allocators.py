"""Allocators: how the utility of a set is shared out over its candidates."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.credit.inputs import check_rewards
from shape_grpo.credit.semivalues import (
    Attention,
    Banzhaf,
    LeaveOneOut,
    Semivalue,
    Shapley,
    beta_shapley,
)
from shape_grpo.credit.utilities import Utility, make_utility
from shape_grpo.registry import Registry

Allocator = Callable[..., Tensor]
"""``(rewards, mask, utility, *, options) -> shares`` (N, K), the arguments as `Utility` describes
them. Its options are its keyword-only parameters."""

ALLOCATORS: Registry[Allocator] = Registry("allocator")
"""Name to function; `register_allocator` adds one."""

register_allocator = ALLOCATORS.register

LAWS: dict[str, Callable[..., Semivalue]] = {
    "shapley": Shapley,
    "beta_shapley": beta_shapley,
    "banzhaf": Banzhaf,
    "leave_one_out": LeaveOneOut,
    "attention": Attention,
}
"""The allocators that are semivalues, each with what makes its law of its options."""

ELEMENTS_IN_CACHE = 2**16
"""Rewards that a CPU computes with at once: float64 copies of more would leave its cache."""

SMALL_SET = 8
"""Padding of fewer columns than these costs less than to leave it out."""


@register_allocator("shapley")
def _shapley(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """The Shapley value: shares sum to U."""
    return utility.semivalue(rewards, mask, Shapley())


@register_allocator("beta_shapley")
def _beta_shapley(
    rewards: Tensor, mask: Tensor, utility: Utility, *, alpha: float, beta: float
) -> Tensor:
    """From the Shapley value (alpha = beta = 1) to leave-one-out (alpha to infinity). The shares
    sum to U for the former alone.
    """
    return utility.semivalue(rewards, mask, beta_shapley(alpha, beta))


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


@register_allocator("attention")
def _attention(
    rewards: Tensor, mask: Tensor, utility: Utility, *, looks: Sequence[float]
) -> Tensor:
    """What k adds for a user who looks at s of the candidates with probability ``looks[s - 1]``.
    The shares do not sum to U.
    """
    law, counts = Attention(looks), mask.sum(dim=1)
    shares = torch.zeros_like(mask, dtype=torch.float64)
    # A set's law depends on its size only where that is more than there are looks.
    places = counts.clamp(min=len(law.looks))
    for count in places.unique().tolist():
        rows = (places == count).nonzero()
        columns = mask[rows.squeeze(1)].int().argsort(dim=1, descending=True, stable=True)
        columns = columns[:, :count]
        values = utility.semivalue(rewards[rows, columns], mask[rows, columns], law)
        shares[rows, columns] = values.double()
    return shares


@register_allocator("uniform")
def _uniform(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """The same share for all: GRPO."""
    value = utility.value(rewards, mask).unsqueeze(1)
    return mask * (value / mask.sum(dim=1, keepdim=True).clamp(min=1))


@register_allocator("winner_takes_all")
def _winner_takes_all(rewards: Tensor, mask: Tensor, utility: Utility) -> Tensor:
    """All to the candidate that ranks highest; candidates that tie for it share equally."""
    ranking = utility.ranking(rewards).masked_fill(~mask, -math.inf)
    winners = mask & (ranking == ranking.amax(dim=1, keepdim=True))
    value = utility.value(rewards, mask).unsqueeze(1)
    return winners * (value / winners.sum(dim=1, keepdim=True).clamp(min=1))


def make_allocator(allocator: str, **options: Any) -> Allocator:
    """An allocator from its name in `ALLOCATORS` and its options: ``(rewards, mask, utility) ->
    shares``.

    Raises:
        ValueError: An unknown name, or an option that is unknown, missing or not allowed. The
            values of options of one's own allocators are for these to check.
    """
    share_out = ALLOCATORS.find(allocator)
    known = _options(share_out)
    names = [parameter.name for parameter in known]
    for option in options:
        if option not in names:
            allowed = f"it takes: {', '.join(names)}" if names else "it takes none"
            raise ValueError(f"allocator {allocator!r} has no option {option!r}; {allowed}")
    for parameter in known:
        if parameter.name not in options and parameter.default is parameter.empty:
            raise ValueError(f"allocator {allocator!r} needs the option {parameter.name!r}")
    if allocator in LAWS:
        LAWS[allocator](**options)  # checks their values
    return partial(share_out, **options)


@lru_cache
def _options(share_out: Allocator) -> list[inspect.Parameter]:
    parameters = inspect.signature(share_out).parameters.values()
    return [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


@torch.no_grad()
def allocate(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
    allocator_options: Mapping[str, Any] | None = None,
) -> Tensor:
    """Share out the utility of each set over its candidates.

    Args:
        rewards: (N, K) candidate rewards of either sign, one row a set, or (N, K, M) vectors for
            ``coverage``; `check_rewards` says which types are accepted.
        mask: (N, K), true where there is a candidate, in any columns. Default: everywhere. What
            stands elsewhere in ``rewards`` is not read.
        utility: A name in `UTILITIES`, or `make_utility` of one with options.
        allocator: A name in `ALLOCATORS`.
        allocator_options: Its options, as ``{"alpha": 3, "beta": 1}`` of ``beta_shapley``.

    Returns:
        Shares (N, K) in the floating type of ``rewards``, without gradient; 0 where there is no
        candidate.

    Raises:
        ValueError: An unknown name, an option that is unknown, missing or not allowed, shapes that
            do not fit, or a reward that is not allowed.
    """
    share_out, game = make_allocator(allocator, **allocator_options or {}), make_utility(utility)
    rewards, mask = check_rewards(rewards, mask, game)
    return share_checked(rewards, mask, game, share_out)


def share_checked(
    rewards: Tensor,
    mask: Tensor,
    game: Utility,
    share_out: Allocator,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`allocate` of what `check_rewards` returned, in ``dtype`` if it is given.

    Raises:
        ValueError: The allocator, one of one's own, gave no share a candidate, or NaN or infinity.
    """
    shares = torch.zeros_like(mask, dtype=dtype or rewards.dtype)
    for rows, width in sets_of_a_size(rewards, mask):
        present = mask[rows, :width]
        part = share_out(rewards[rows, :width].to(shares.dtype), present, game)
        if part.shape != present.shape:
            raise ValueError(
                f"the allocator returned shares of shape {tuple(part.shape)} for rewards and mask "
                f"of {tuple(present.shape)}; it must return one a candidate"
            )
        shares[rows, :width] = part.masked_fill(~present, 0.0).to(shares.dtype)
    if not shares.isfinite().all():
        row, column = (~shares.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"the allocator gave the share {shares[row, column].item()} for the rewards "
            f"{rewards[row, mask[row]].tolist()}; shares must be finite"
        )
    return shares


def sets_of_a_size(rewards: Tensor, mask: Tensor) -> Iterator[tuple[slice | Tensor, int]]:
    """Rows to compute with at once, and how many of the first columns they need: at most twice
    their candidates if these stand first, so that no set pays for a larger one.
    """
    (n, k), device = mask.shape, mask.device
    if not rewards.numel():
        return
    of_a_candidate = rewards.numel() // (n * k)
    at_once = ELEMENTS_IN_CACHE if device.type == "cpu" else rewards.numel()
    if k <= SMALL_SET or mask[:, -1].all():
        rows = max(at_once // (k * of_a_candidate), 1)
        yield from ((slice(first, first + rows), k) for first in range(0, n, rows))
        return
    needed = (mask * torch.arange(1, k + 1, device=device)).amax(dim=1).clamp(min=SMALL_SET)
    powers = needed.double().log2().ceil()
    for power in powers.unique().tolist():
        width = min(2 ** int(power), k)
        rows = max(at_once // (width * of_a_candidate), 1)
        for some in (powers == power).nonzero().squeeze(1).split(rows):
            yield some, width


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


def value_checked(
    rewards: Tensor, mask: Tensor, game: Utility, dtype: torch.dtype | None = None
) -> Tensor:
    """`set_utility` of what `check_rewards` returned, in ``dtype`` if it is given."""
    values = rewards.new_zeros(len(rewards), dtype=dtype or rewards.dtype)
    for rows, width in sets_of_a_size(rewards, mask):
        part = game.value(rewards[rows, :width].to(values.dtype), mask[rows, :width])
        values[rows] = part.to(values.dtype)
    return values
