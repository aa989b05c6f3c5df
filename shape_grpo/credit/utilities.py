"""What a set of candidates is worth: the base of all set utilities, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, ClassVar

from torch import Tensor

from shape_grpo.credit.semivalues import Semivalue
from shape_grpo.registry import Registry


class Utility(ABC):
    """A permutation-invariant set utility U with U(no candidates) = 0.

    A utility without a closed form derives from `SubsetUtility` and gives `value` alone. Options
    are the fields of a dataclass, checked in its ``__post_init__``.

    The methods take floating ``rewards`` (N, K), or (N, K, M) with ``takes_vectors``, K > 0, all of
    them allowed, and 0 outside the bool ``mask`` (N, K), which is true where there is a candidate.
    """

    takes_vectors: ClassVar[bool] = False
    """Whether a candidate's reward is a vector."""

    domain: ClassVar[str] = "finite numbers"
    """Which rewards `allows` accepts, in words."""

    @abstractmethod
    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """U of each row's candidates, (N,)."""

    @abstractmethod
    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        """Semivalues (N, K) of the candidates, in any floating type; not read outside the mask."""

    def ranking(self, rewards: Tensor) -> Tensor:
        """(N, K): the number by which one candidate is better than another; here its reward."""
        return rewards

    def allows(self, rewards: Tensor) -> Tensor:
        """Bool, in the shape of ``rewards``: which numbers may be rewards."""
        return rewards.isfinite()


UTILITIES: Registry[type[Utility]] = Registry("utility")
"""Name to class; `register_utility` adds one."""

register_utility = UTILITIES.register


def make_utility(utility: str | Utility, **options: Any) -> Utility:
    """A utility from its name in `UTILITIES` and its options; a `Utility` is returned as it is.

    Raises:
        ValueError: An unknown name, or an option that is unknown, missing or not allowed.
    """
    if isinstance(utility, Utility):
        return utility
    kind = UTILITIES.find(utility)
    known: tuple[Field[Any], ...] = fields(kind) if is_dataclass(kind) else ()
    names = [field.name for field in known]
    for option in options:
        if option not in names:
            allowed = f"it takes: {', '.join(names)}" if names else "it takes none"
            raise ValueError(f"utility {utility!r} has no option {option!r}; {allowed}")
    for field in known:
        if field.name not in options and field.default is field.default_factory is MISSING:
            raise ValueError(f"utility {utility!r} needs the option {field.name!r}")
    return kind(**options)
