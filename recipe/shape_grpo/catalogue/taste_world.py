"""Worlds of prompts with hidden tastes, and of items that suit some of them."""

from __future__ import annotations

import torch
from torch import Tensor

from recipe.shape_grpo.catalogue.random_streams import RandomStreams

TASTE_SIZE = 3
"""Dimension of the vectors of tastes and items."""


class TasteWorld:
    """The worlds of S seeds.

    Tastes and items are vectors of normal numbers. Their product, scaled to variance 1, is added
    to 3 and rounded to 1 to 5 stars.

    Args:
        streams: Random streams, one per seed.
        prompts: Number P of prompts.
        modes: Number M of tastes that each prompt may have.
        items: Number N of items.
        pass_fail: Whether the reward is 1 for five stars, else 0, instead of the stars.
        longest: Maximum length of an item in tokens; the minimum is 1.

    Attributes:
        tastes: (S, P, M * `TASTE_SIZE`) float32, the concatenated tastes of each prompt.
        rewards: (S, P, M, N) float32, the reward of each item under each taste.
        lengths: (S, N) int64, the length of each item in tokens.
    """

    def __init__(
        self,
        streams: RandomStreams,
        *,
        prompts: int,
        modes: int,
        items: int,
        pass_fail: bool,
        longest: int,
    ) -> None:
        tastes = streams.normal(prompts, modes, TASTE_SIZE)
        vectors = streams.normal(items, TASTE_SIZE)
        liking = torch.einsum("spmv,siv->spmi", tastes, vectors) / TASTE_SIZE**0.5
        stars = (3 + liking).round().clamp(1, 5)
        self.tastes = tastes.flatten(2)
        self.rewards = (stars == 5).float() if pass_fail else stars
        self.lengths = 1 + streams.below(longest, items)

    def describe(self, prompts: Tensor) -> Tensor:
        """Return the policies' input (S, B, F): the tastes of the prompts (S, B)."""
        seed = torch.arange(len(prompts)).unsqueeze(1)
        return self.tastes[seed, prompts]

    def rate(self, prompts: Tensor, modes: Tensor, items: Tensor) -> Tensor:
        """Return the rewards of items under one taste of each prompt.

        Args:
            prompts: (S, B) int64.
            modes: (S, B) int64.
            items: (S, B, K) int64.

        Returns:
            (S, B, K); 0 for an item that repeats an earlier one.
        """
        seed = torch.arange(len(items))[:, None, None]
        rewards = self.rewards[seed, prompts.unsqueeze(-1), modes.unsqueeze(-1), items]
        return rewards.masked_fill(repeats(items), 0.0)

    def rate_by_all(self, prompts: Tensor, items: Tensor) -> Tensor:
        """Return the rewards (S, B, K, M) of items under all tastes of each prompt.

        Args:
            prompts: (S, B) int64.
            items: (S, B, K) int64.
        """
        modes = range(self.rewards.shape[2])
        each = [self.rate(prompts, torch.full_like(prompts, mode), items) for mode in modes]
        return torch.stack(each, dim=-1)

    def tokens(self, items: Tensor) -> Tensor:
        """Return the lengths (S, B, K) of the items (S, B, K) in tokens."""
        return self.lengths.gather(1, items.flatten(1)).view_as(items)


def repeats(items: Tensor) -> Tensor:
    """Return whether each item equals an earlier one along the last dimension."""
    same = items.unsqueeze(-1) == items.unsqueeze(-2)
    return same.tril(-1).any(-1)
