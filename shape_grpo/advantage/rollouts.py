"""Advantages of rollouts: the responses to one prompt are the candidates of one set."""

import torch
from torch import Tensor

from shape_grpo.advantage.formulas import NO_SPREAD
from shape_grpo.advantage.method import Method
from shape_grpo.advantage.statistics import GroupIndex, group_mean_std, group_numbers
from shape_grpo.credit.sets import allocate_checked


@torch.no_grad()
def rollout_advantages(
    rewards: Tensor,
    index: GroupIndex,
    method: Method,
    *,
    known: Tensor | None = None,
    shares: Tensor | None = None,
) -> Tensor:
    """Compute the advantages of N rollouts, one for all tokens of a rollout.

    A_i = (psi_i - mean) / (s + epsilon), with psi_i the share of rollout i in the utility of its
    group, and the mean of psi over the group. s is the standard deviation of the *rewards*, as in
    GRPO and verl's ``grpo_passk`` (README.md of `shape_grpo.credit` has the reason); of vectors it
    is the root of the summed variances. As in verl, it has ddof 1, and a group of one has mean 0
    and s = 1. A group whose s is below `NO_SPREAD` gets 0.

    Args:
        rewards: (N,), or (N, M) for a utility that takes vectors. NaN marks an unknown reward.
        index: (N,) group ids.
        method: Utility, allocator, ``norm_by_std`` and epsilon. Its advantage formula and
            ``length_correction`` are for candidates within a response and are not read.
        known: (N,) bool; False also marks an unknown reward. Such a rollout is no member of its
            set, and its advantage is 0.
        shares: (N,) shares psi, where the caller has them, as under a utility that reads texts; NaN
            is one more mark of an unknown reward.

    Returns:
        (N,) float64.

    Raises:
        ValueError: Shapes that do not fit, or a reward that the utility does not allow.
    """
    group = group_numbers(index).to(rewards.device)
    utility = method.utility
    if rewards.dim() != 1 + utility.takes_vectors or len(rewards) != len(group):
        shape = "(N, M)" if utility.takes_vectors else "(N,)"
        raise ValueError(
            f"rewards must have shape {shape} and index (N,); they have {tuple(rewards.shape)} and "
            f"{tuple(group.shape)}"
        )
    vectors = rewards.double() if utility.takes_vectors else rewards.double().unsqueeze(1)
    has_reward = ~vectors.isnan().any(dim=1)
    known = has_reward if known is None else known & has_reward
    if shares is not None:
        known = known & ~shares.isnan()
    vectors = vectors.masked_fill(~known.unsqueeze(1), 0.0)
    allowed = (utility.allows(vectors) | ~known.unsqueeze(1)).all(dim=1)
    if not allowed.all():
        row = int((~allowed).nonzero()[0])
        raise ValueError(
            f"rollout {row} of {len(rewards)} has the reward {rewards[row].tolist()}, and the "
            f"utility takes {utility.domain}: return such a reward, or choose another utility"
        )
    count = torch.bincount(group)
    if shares is None:
        shares = _split(vectors, known, group, method)
    shares = shares.double().masked_fill(~known, 0.0)
    alone = count[group] == 1
    mean, _ = group_mean_std(shares, group, known, alone)
    stds = [group_mean_std(column, group, known, alone)[1] for column in vectors.unbind(1)]
    std = torch.linalg.vector_norm(torch.stack(stds), dim=0)
    advantages = shares - mean
    if method.norm_by_std:
        advantages = advantages / (std + method.epsilon)
    return advantages.masked_fill((std < NO_SPREAD) | ~known, 0.0)


def _split(vectors: Tensor, known: Tensor, group: Tensor, method: Method) -> Tensor:
    """Return (N,) float64: the share of each rollout, of (N, M) rewards, in its group's utility."""
    count = torch.bincount(group)
    place = _places(group, count)
    size = int(count.max()) if len(count) else 0
    sets = vectors.new_zeros(len(count), size, vectors.shape[1])
    mask = torch.zeros(len(count), size, dtype=torch.bool, device=group.device)
    sets[group, place], mask[group, place] = vectors, known
    sets = sets if method.utility.takes_vectors else sets.squeeze(2)
    shares = allocate_checked(sets, mask, method.utility, method.allocator, torch.float64)
    return shares[group, place]


def _places(group: Tensor, count: Tensor) -> Tensor:
    """Return (N,) int64: how many earlier rows are of the row's group."""
    order = group.argsort(stable=True)
    first = (count.cumsum(0) - count)[group]
    place = torch.empty_like(group)
    place[order] = torch.arange(len(group), device=group.device) - first[order]
    return place
