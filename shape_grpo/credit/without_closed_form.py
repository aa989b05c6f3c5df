"""Utilities without a closed form: found from subsets of the candidates."""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from shape_grpo.credit.semivalues import Semivalue
from shape_grpo.credit.subsets import subset_semivalue
from shape_grpo.credit.utilities import Utility, register_utility


@dataclass(kw_only=True)
class SubsetUtility(Utility):
    """Base of utilities whose semivalues have no closed form.

    Semivalues are exact for up to ``exact_up_to`` candidates, O(2^K), and estimated from random
    orders for more; `sample_semivalue` also returns standard errors.

    Attributes:
        exact_up_to: Number of candidates up to which all subsets are evaluated.
        samples: Number of orders drawn for larger sets.
        seed: Seed of the orders.
    """

    exact_up_to: int = 12
    samples: int = 512
    seed: int = 0

    keeps_order: ClassVar[bool] = False
    """Whether candidates are told apart by their columns, not by their rewards."""

    def __post_init__(self) -> None:
        for name, least, most in (("exact_up_to", 0, 20), ("samples", 4, None), ("seed", 0, None)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least or (most and value > most):
                allowed = f"{least} to {most}" if most else f"{least} or more"
                raise ValueError(f"utility option {name}={value}: use a whole number, {allowed}")

    def semivalue(self, rewards: Tensor, mask: Tensor, law: Semivalue) -> Tensor:
        return subset_semivalue(
            self.value,
            rewards,
            mask,
            law,
            exact_up_to=self.exact_up_to,
            samples=self.samples,
            seed=self.seed,
            keep_order=self.keeps_order,
        )


@register_utility("softmax")
@dataclass(kw_only=True)
class SoftmaxChoice(SubsetUtility):
    """U(S) = expected reward when the user picks k from S with probability proportional to
    exp(r_k / temperature) (the logit model: Luce, 1959; McFadden, 1974). U(empty) = 0.

    Between the mean (high temperature) and the max (low). Like the mean's, a share may be negative.

    Attributes:
        temperature: Above 0, in units of reward.
    """

    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"utility 'softmax' needs temperature > 0, not {self.temperature}")

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        logits = (rewards.double() / self.temperature).masked_fill(~mask, -math.inf)
        chosen = logits.masked_fill(~mask.any(dim=1, keepdim=True), 0.0).softmax(dim=1)
        return (chosen * rewards).sum(dim=1)


@register_utility("custom")
@dataclass(kw_only=True)
class Custom(SubsetUtility):
    """U(S) from a custom function. U(empty) = 0: the function's result for it is not used.

    The function is called as ``function(rewards, coalitions)`` with float64 rewards (N, K), or
    (N, K, M) of vectors, 0 outside the bool coalitions (N, K), and returns U (N,). It is tried on a
    few small sets at the start, to see that the order of candidates does not matter to it.

    Attributes:
        function: ``package.module:function``, or the function itself.
        components: M, if a candidate's reward is a vector; shorter ones end with zeros. None: it is
            one number.
    """

    function: str | Callable[[Tensor, Tensor], Tensor]
    components: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._function = (
            load_function(self.function) if isinstance(self.function, str) else self.function
        )
        vector: tuple[int, ...] = ()
        if self.components is not None:
            check_components(self.components)
            vector = (self.components,)
            self.takes_vectors = True
            self.domain = f"vectors of up to {self.components} finite numbers"
        generator = torch.Generator().manual_seed(0)
        mask = torch.arange(4) < torch.arange(1, 5).unsqueeze(1)
        rewards = torch.rand(4, 4, *vector, generator=generator, dtype=torch.float64)
        rewards *= mask.view(4, 4, *[1] * len(vector))
        values, reversed_values = (
            self.value(rewards, mask),
            self.value(rewards.flip(1), mask.flip(1)),
        )
        if not torch.allclose(values, reversed_values):
            raise ValueError(
                f"utility function {self.function} gives {values.tolist()} for four sets and "
                f"{reversed_values.tolist()} for the same in reverse; a set has no order"
            )

    def value(self, rewards: Tensor, mask: Tensor) -> Tensor:
        if self.components is not None:
            rewards = pad(rewards, (0, self.components - rewards.shape[2]))
        try:
            values = torch.as_tensor(self._function(rewards.double(), mask))
        except Exception as error:
            raise ValueError(
                f"utility function {self.function}, called as function(rewards, coalitions) with "
                f"{len(mask)} sets, failed: {type(error).__name__}: {error}"
            ) from error
        if values.shape != mask.shape[:1]:
            raise ValueError(
                f"utility function {self.function} returned shape {tuple(values.shape)} for "
                f"{len(mask)} sets; it must return one number per set, ({len(mask)},)"
            )
        values = values.double().masked_fill(~mask.any(dim=1), 0.0)
        if not values.isfinite().all():
            row = int((~values.isfinite()).nonzero()[0])
            raise ValueError(
                f"utility function {self.function} returned {values[row].item()} for the rewards "
                f"{rewards[row, mask[row]].tolist()}"
            )
        return values

    def allows(self, rewards: Tensor) -> Tensor:
        few_enough = self.components is None or rewards.shape[-1] <= self.components
        return super().allows(rewards) & few_enough


def check_components(components: int) -> None:
    """Check the length of a vector reward.

    Raises:
        ValueError: It is no whole number of 1 or more.
    """
    if not isinstance(components, int) or components < 1:
        raise ValueError(
            f"utility option components={components!r}: use the length of a reward vector, a whole "
            "number of 1 or more"
        )


def load_function(path: str) -> Callable[..., Any]:
    """Import ``package.module:function``.

    Raises:
        ValueError: It is written otherwise, or cannot be imported.
    """
    module, _, name = path.partition(":")
    if not module or not name:
        raise ValueError(f"utility function {path!r}: write it as package.module:function")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        raise ValueError(
            f"utility function {path!r} cannot be imported ({type(error).__name__}: {error}). "
            "Write it as module:function, for a file module.py in a folder of Python's path"
        ) from error
