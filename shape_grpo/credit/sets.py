"""Utilities and shares of batches of sets, of any sizes."""

from collections.abc import Iterator

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.credit.allocators import Allocator, make_allocator
from shape_grpo.credit.inputs import check_rewards
from shape_grpo.credit.utilities import Utility, make_utility

ELEMENTS_IN_CACHE = 2**16
"""Rewards that a CPU computes with at once: float64 copies of more would leave its cache."""

SMALL_SET = 8
"""Number of columns below which padding costs less than leaving it out."""


@torch.no_grad()
def allocate(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
    allocator: str | Allocator = "shapley",
) -> Tensor:
    """Split the utility of each set over its candidates.

    Args:
        rewards: (N, K) candidate rewards of either sign, one row per set, or (N, K, M) for
            utilities of vectors; `check_rewards` says which types are accepted.
        mask: (N, K), True where there is a candidate, in any columns. Default: everywhere.
            ``rewards`` is not read elsewhere.
        utility: Name in `UTILITIES`, or `make_utility` of one with options.
        allocator: Name in `ALLOCATORS`, or `make_allocator` of one with options.

    Returns:
        Shares (N, K) in the floating type of ``rewards``, without gradient; 0 where there is no
        candidate.

    Raises:
        ValueError: An unknown name, a missing option, shapes that do not fit, or a reward that is
            not allowed.
    """
    utility, allocator = make_utility(utility), make_allocator(allocator)
    rewards, mask = check_rewards(rewards, mask, utility)
    return allocate_checked(rewards, mask, utility, allocator)


def shapley_values(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
) -> Tensor:
    """Return the Shapley values (N, K) of each set's candidates: `allocate` by ``shapley``."""
    return allocate(rewards, mask, utility=utility, allocator="shapley")


@torch.no_grad()
def set_utility(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    *,
    utility: str | Utility = "max",
) -> Tensor:
    """Return the utility (N,) of each set, 0 without candidates; arguments as for `allocate`."""
    utility = make_utility(utility)
    rewards, mask = check_rewards(rewards, mask, utility)
    return utility_checked(rewards, mask, utility)


def allocate_checked(
    rewards: Tensor,
    mask: Tensor,
    utility: Utility,
    allocator: Allocator,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """`allocate` for rewards and mask that `check_rewards` returned; in ``dtype`` if given.

    Raises:
        ValueError: A custom allocator returned a wrong shape, NaN or infinity.
    """
    shares = torch.zeros_like(mask, dtype=dtype or rewards.dtype)
    for rows, width in chunks_by_size(rewards, mask):
        present = mask[rows, :width]
        part = allocator.allocate(rewards[rows, :width].to(shares.dtype), present, utility)
        if part.shape != present.shape:
            raise ValueError(
                f"the allocator returned shares of shape {tuple(part.shape)} for rewards and mask "
                f"of {tuple(present.shape)}; it must return one share per candidate"
            )
        shares[rows, :width] = part.masked_fill(~present, 0.0).to(shares.dtype)
    if not shares.isfinite().all():
        row, column = (~shares.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"the allocator gave the share {shares[row, column].item()} for the rewards "
            f"{rewards[row, mask[row]].tolist()}; shares must be finite"
        )
    return shares


def utility_checked(
    rewards: Tensor, mask: Tensor, utility: Utility, dtype: torch.dtype | None = None
) -> Tensor:
    """`set_utility` for rewards and mask that `check_rewards` returned; in ``dtype`` if given."""
    values = rewards.new_zeros(len(rewards), dtype=dtype or rewards.dtype)
    for rows, width in chunks_by_size(rewards, mask):
        part = utility.value(rewards[rows, :width].to(values.dtype), mask[rows, :width])
        values[rows] = part.to(values.dtype)
    return values


def chunks_by_size(rewards: Tensor, mask: Tensor) -> Iterator[tuple[slice | Tensor, int]]:
    """Yield rows to compute with at once, and the number of first columns that they need.

    That number is at most twice their candidates if these stand first, so that no set pays for a
    larger one.
    """
    (n, k), device = mask.shape, mask.device
    if not rewards.numel():
        return
    elements_per_candidate = rewards.numel() // (n * k)
    at_once = ELEMENTS_IN_CACHE if device.type == "cpu" else rewards.numel()
    if k <= SMALL_SET or mask[:, -1].all():
        rows = max(at_once // (k * elements_per_candidate), 1)
        yield from ((slice(first, first + rows), k) for first in range(0, n, rows))
        return
    needed = (mask * torch.arange(1, k + 1, device=device)).amax(dim=1).clamp(min=SMALL_SET)
    powers = needed.double().log2().ceil()
    for power in powers.unique().tolist():
        width = min(2 ** int(power), k)
        rows = max(at_once // (width * elements_per_candidate), 1)
        for chunk in (powers == power).nonzero().squeeze(1).split(rows):
            yield chunk, width
