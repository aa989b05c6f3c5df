"""Prompts with hidden tastes, and items that suit some of them."""

from __future__ import annotations

import torch
from torch import Tensor

from recipe.shape_grpo.catalogue.random_streams import RandomStreams

TASTE_SIZE = 3
"""Numbers that make up a taste or an item."""


class TasteWorld:
    """The worlds of S seeds.

    A taste and an item are vectors of normal numbers; their product, scaled to variance 1, is how
    much the item is liked. That makes 3 plus it, rounded, within 1 to 5 stars.

    Args:
        streams: Draw them.
        prompts: Prompts P.
        modes: Tastes M that each prompt may have.
        items: Items N.
        pass_fail: Whether a reward is 1 for five stars, else 0. Otherwise the stars are the reward.
        longest: Items have 1 to this many tokens.

    Attributes:
        tastes: (S, P, M * `TASTE_SIZE`) float32, the tastes of each prompt one after another.
        rewards: (S, P, M, N) float32 of each item under each taste.
        lengths: (S, N) int64, tokens of each item.
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
        """What a policy reads, (S, B, F): the tastes of the prompts (S, B)."""
        seed = torch.arange(len(prompts)).unsqueeze(1)
        return self.tastes[seed, prompts]

    def rate(self, prompts: Tensor, modes: Tensor, items: Tensor) -> Tensor:
        """Rewards of items under one taste of each prompt.

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

    def tokens(self, items: Tensor) -> Tensor:
        """Tokens (S, B, K) of the items (S, B, K)."""
        return self.lengths.gather(1, items.flatten(1)).view_as(items)


def repeats(items: Tensor) -> Tensor:
    """Where an item equals an earlier one of the last dimension: bool, of the same shape."""
    same = items.unsqueeze(-1) == items.unsqueeze(-2)
    return same.tril(-1).any(-1)
