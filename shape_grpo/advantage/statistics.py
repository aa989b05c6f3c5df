"""Mean and standard deviation over the responses to one prompt, as verl's GRPO takes them."""

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

GroupIndex = Tensor | np.ndarray | Sequence[Hashable]
"""(N,) group ids: verl's object array of uuid strings, an integer tensor, or any hashables."""


def group_numbers(index: GroupIndex) -> Tensor:
    """Group ids as consecutive numbers (N,), int64, in order of appearance."""
    ids = index.tolist() if isinstance(index, Tensor | np.ndarray) else index
    numbers = {group: number for number, group in enumerate(dict.fromkeys(ids))}
    return torch.tensor([numbers[group] for group in ids], dtype=torch.int64)


def group_mean_std(
    scores: Tensor, group: Tensor, known: Tensor, alone: Tensor
) -> tuple[Tensor, Tensor]:
    """Statistics of each score's group, repeated for each score.

    As in verl, the standard deviation has ddof 1, and a group of one response has mean 0 and
    standard deviation 1. A larger group with only one known response has that response as its mean:
    there is nothing to compare it with.

    Args:
        scores: (N,) floating rewards.
        group: (N,) group numbers.
        known: (N,) bool; scores with False are left out.
        alone: (N,) bool; scores that are all their group has.

    Returns:
        ``(mean, std)``, each (N,) in the type of ``scores``.
    """
    counted = known.to(scores.dtype)
    scores = scores.masked_fill(~known, 0.0)

    def totals(values: Tensor) -> Tensor:
        return torch.bincount(group, values).to(scores.dtype)

    count = totals(counted)
    mean = (totals(scores) / count.clamp(min=1))[group]
    variance = totals(((scores - mean) * counted) ** 2) / (count - 1).clamp(min=1)
    return mean.masked_fill(alone, 0.0), variance.sqrt()[group].masked_fill(alone, 1.0)


def group_lowest(rewards: Tensor, mask: Tensor, group: Tensor) -> Tensor:
    """The lowest reward of each candidate's group; of vectors, the lowest of each component.

    Args:
        rewards: (N, K) or (N, K, M) floating.
        mask: (N, K) bool, where there is a candidate.
        group: (N,) group numbers of responses.

    Returns:
        In the shape of ``rewards``, 0 where there is no candidate.
    """
    if not rewards.numel():
        return torch.zeros_like(rewards)
    absent = ~mask if rewards.dim() == 2 else ~mask.unsqueeze(2)
    of_sets = rewards.masked_fill(absent, torch.inf).amin(dim=1)
    where = group.view(-1, *[1] * (of_sets.dim() - 1)).expand_as(of_sets)
    lowest = torch.full_like(of_sets, torch.inf).scatter_reduce(0, where, of_sets, "amin")
    return lowest[group].unsqueeze(1).expand_as(rewards).masked_fill(absent, 0.0)
