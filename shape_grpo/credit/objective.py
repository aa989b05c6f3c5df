"""What training climbs that pays candidates their shares; README.md has the theorem."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shape_grpo.credit.allocators import LAWS, make_allocator


def objective_weights(
    count: int,
    *,
    allocator: str = "shapley",
    allocator_options: Mapping[str, Any] | None = None,
) -> Tensor:
    """The objective whose gradient the shares of independently drawn candidates give.

    For a semivalue it is the sum over s of P(s - 1) / s times the expected utility of s of the
    candidates, best-of-s under the max. For ``uniform``, which is GRPO, it is the utility of all of
    them. For ``banzhaf`` it is that of the value before it is scaled to sum to U.

    Args:
        count: K, how many candidates a set has, 1 or more.
        allocator: A name in `LAWS`, or ``uniform``.
        allocator_options: Its options.

    Returns:
        (K,) float64, 0 or more, with the sum 1: at [s - 1] the weight of the utility of s.

    Raises:
        ValueError: The allocator is unknown or no semivalue, an option is unknown, missing or not
            allowed, or ``count`` is below 1.
    """
    options = allocator_options or {}
    make_allocator(allocator, **options)  # checks its options
    if count < 1:
        raise ValueError(f"count={count}: a set that is drawn has 1 candidate or more")
    if allocator == "uniform":
        return torch.eye(count, dtype=torch.float64)[-1]
    if allocator not in LAWS:
        raise ValueError(
            f"allocator {allocator!r} is no semivalue, so its shares are not known to climb any "
            f"utility of the set; these do: {', '.join(LAWS)}, uniform"
        )
    weights = LAWS[allocator](**options).sizes(count) / torch.arange(1, count + 1)
    return weights / weights.sum()
