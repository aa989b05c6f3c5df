"""Random numbers for many seeds at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Generator, Tensor


class RandomStreams:
    """One generator per seed: a seed's draws do not depend on the other seeds.

    Args:
        seeds: The S seeds.
    """

    def __init__(self, seeds: Iterable[int]) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, *shape: int) -> Tensor:
        """Draw (S, *shape) float32, uniform in [0, 1)."""
        return self._each(torch.rand, shape)

    def normal(self, *shape: int) -> Tensor:
        """Draw (S, *shape) float32, standard normal."""
        return self._each(torch.randn, shape)

    def below(self, bound: int, *shape: int) -> Tensor:
        """Draw (S, *shape) int64 from 0 to bound - 1."""
        return self._each(torch.randint, bound, shape)

    def sample(self, bound: int, count: int) -> Tensor:
        """Draw (S, count) distinct int64 from 0 to bound - 1."""
        return self._each(torch.randperm, bound)[:, :count]

    def _each(self, draw: Callable[..., Tensor], *arguments: Any) -> Tensor:
        return torch.stack([draw(*arguments, generator=own) for own in self._generators])
