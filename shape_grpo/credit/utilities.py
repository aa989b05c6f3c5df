"""Set utilities: their base class and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.registry import Registry, build

if TYPE_CHECKING:
    from shape_grpo.credit.semivalues import Semivalue


class Utility(ABC):
    """A permutation-invariant set utility U with U(no candidates) = 0.

    A utility without a closed form derives from `SubsetUtility` and defines `value` alone. Options
    are the fields of a dataclass, checked in its ``__post_init__``.

    The methods take floating ``rewards`` (N, K), or (N, K, M) with ``takes_vectors``, K > 0. All
    rewards are allowed ones, and 0 outside the bool ``mask`` (N, K), which is True where there is a
    candidate. M is the length of the longest vector at hand; shorter ones end with zeros.
    """

    takes_vectors: bool = False
    """Whether a candidate's reward is a vector."""

    takes_texts: ClassVar[bool] = False
    """Whether U depends on the candidates' texts; see `shape_grpo.credit.TextUtility`."""

    domain: str = "finite numbers"
    """Phrase for the rewards that `allows` accepts."""

    def __init_subclass__(cls) -> None:
        if cls.takes_vectors and cls.domain == Utility.domain:
            cls.domain = "vectors of finite numbers"

    @abstractmethod
    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        """Return the utility (N,) of each row's candidates."""

    @abstractmethod
    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        """Return the semivalues (N, K), in any floating type; undefined where the mask is False."""

    def ranking(self, rewards: Tensor) -> Tensor:
        """Return (N, K) numbers by which candidates are ranked; by default their rewards, or of
        vectors the utility of each candidate alone.
        """
        if not self.takes_vectors:
            return rewards
        if not rewards.numel():
            return rewards.new_zeros(rewards.shape[:2])
        alone = rewards.flatten(0, 1).unsqueeze(1)
        present = torch.ones(alone.shape[:2], dtype=torch.bool, device=rewards.device)
        return self.value(alone, present).view(rewards.shape[:2])

    def allows(self, rewards: Tensor) -> Tensor:
        """Return in the shape of ``rewards`` which numbers may be rewards, as bool."""
        return rewards.isfinite()

    def accepts(self, reward: Tensor) -> bool:
        """Return whether a reward function may return this number () or vector (M,)."""
        return bool(self.allows(reward).all())

    def project(self, vectors: Tensor | ArrayLike, draw: str | int) -> Tensor:
        """Return what credit is computed from, float64, for vectors as `accepts` takes them.

        Args:
            vectors: (..., M).
            draw: Names prompt, step and run, for utilities that draw at random.
        """
        return torch.as_tensor(vectors, dtype=torch.float64)


UTILITIES: Registry[type[Utility]] = Registry("utility")
"""Name to class; `register_utility` adds one."""

register_utility = UTILITIES.register


def make_utility(utility: str | Utility, **options: Any) -> Utility:
    """Build a utility from its name in `UTILITIES` and its options; a `Utility` is returned as is.

    Raises:
        ValueError: The name is unknown, or an option is unknown, missing or not allowed.
    """
    return utility if isinstance(utility, Utility) else build(UTILITIES, utility, options)
