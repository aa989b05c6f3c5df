"""Random numbers for many seeds at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Generator, Tensor


class RandomStreams:
    """One generator a seed: what a seed draws does not depend on which others there are.

    Args:
        seeds: Numbers of the S seeds.
    """

    def __init__(self, seeds: Iterable[int]) -> None:
        self._generators = [Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, *shape: int) -> Tensor:
        """(S, *shape) float32 in [0, 1)."""
        return self._each(lambda own: torch.rand(shape, generator=own))

    def normal(self, *shape: int) -> Tensor:
        """(S, *shape) float32, standard normal."""
        return self._each(lambda own: torch.randn(shape, generator=own))

    def below(self, bound: int, *shape: int) -> Tensor:
        """(S, *shape) int64 from 0 to bound - 1."""
        return self._each(lambda own: torch.randint(bound, shape, generator=own))

    def sample(self, bound: int, count: int) -> Tensor:
        """(S, count) different int64 from 0 to bound - 1."""
        return self._each(lambda own: torch.randperm(bound, generator=own)[:count])

    def _each(self, draw: Callable[[Generator], Tensor]) -> Tensor:
        return torch.stack([draw(own) for own in self._generators])
