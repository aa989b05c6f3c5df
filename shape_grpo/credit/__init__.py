"""From the rewards of a set's candidates to each candidate's share of the set's utility."""

from shape_grpo.credit.allocators import (
    ALLOCATORS,
    Allocator,
    allocate,
    register_allocator,
    set_utility,
    shapley_values,
)
from shape_grpo.credit.inputs import check_rewards
from shape_grpo.credit.registry import Registry
from shape_grpo.credit.utilities import UTILITIES, Utility, register_utility

__all__ = [
    "ALLOCATORS",
    "UTILITIES",
    "Allocator",
    "Registry",
    "Utility",
    "allocate",
    "check_rewards",
    "register_allocator",
    "register_utility",
    "set_utility",
    "shapley_values",
]
