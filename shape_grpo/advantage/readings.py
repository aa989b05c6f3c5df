"""From candidate rewards, lengths and groups to the advantage of each candidate."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.advantage.statistics import GroupIndex, group_mean_std, group_numbers
from shape_grpo.credit import Registry, allocate, check_rewards, set_utility

NO_REWARD = 1e-8
"""A set whose utility is smaller than this in magnitude has nothing to share: all weights are 1."""


@dataclass(frozen=True)
class Credit:
    """What a reading of the paper works from, in float64.

    Attributes:
        weights: (N, K) credit weights of candidates, as `credit_weights` gives them.
        advantages: (N,) GRPO advantages of responses.
    """

    weights: Tensor
    advantages: Tensor


Reading = Callable[[Credit], Tensor]
"""The advantages (N, K) of candidates; unread where there is no candidate."""

READINGS: Registry[Reading] = Registry("advantage")
"""Name to function; `register_reading` adds one."""

register_reading = READINGS.register


@register_reading("reweight")
def _reweight(credit: Credit) -> Tensor:
    """w_ik * A_i: ShapE-GRPO as a reweighting of GRPO, Proposition 4.1 of arXiv 2603.29871."""
    return credit.weights * credit.advantages.unsqueeze(1)


@torch.no_grad()
def credit_weights(
    rewards: Tensor,
    mask: Tensor,
    lengths: Tensor,
    *,
    utility: str = "max",
    allocator: str = "shapley",
    length_correction: bool = False,
) -> Tensor:
    """How many times its GRPO credit a token of each candidate gets.

    With shares phi_k of the utility R of K candidates, of l_k tokens each and L in total, the
    weight is K * phi_k / R, or with ``length_correction`` phi_k * L / (l_k * R), whose average
    over the tokens of the candidates is 1. All weights are 1 where |R| < `NO_REWARD`, and for the
    allocator ``uniform``, which is GRPO at any lengths.

    A negative reward would let weights change sign, so the rewards of a response are first shifted
    up by the lowest of them, if that is negative.

    A candidate without tokens still counts as a rival in the shares, and in K. With
    ``length_correction``, which pays by the token, its share cannot be paid: it is taken off R, so
    that the average stays 1, and its own weight, which no token sees, is 1.

    Args:
        rewards: (N, K), finite and 0 outside the mask.
        mask: (N, K) bool.
        lengths: (N, K) tokens of each candidate; not read outside the mask.
        utility: A name in `shape_grpo.credit.UTILITIES`.
        allocator: A name in `shape_grpo.credit.ALLOCATORS`.
        length_correction: Whether to divide a share by the candidate's part of the tokens.

    Returns:
        (N, K) in the type of ``rewards``; unread where there is no candidate.
    """
    # The appended column of zeros leaves a set without negative rewards where it is.
    lowest = torch.nn.functional.pad(rewards, (0, 1)).amin(dim=1, keepdim=True)
    rewards = (rewards - lowest).masked_fill(~mask, 0.0)
    shares = allocate(rewards, mask, utility=utility, allocator=allocator)
    value = set_utility(rewards, mask, utility=utility).unsqueeze(1)
    if allocator == "uniform":
        return torch.ones_like(rewards)

    paid = mask
    per_share = mask.sum(dim=1, keepdim=True).expand_as(mask)
    if length_correction:
        paid = mask & (lengths > 0)
        value = value - shares.masked_fill(paid, 0.0).sum(dim=1, keepdim=True)
        tokens = lengths.masked_fill(~paid, 0).sum(dim=1, keepdim=True)
        per_share = tokens / lengths.masked_fill(~paid, 1).to(rewards.dtype)
    weights = shares / value * per_share
    return weights.masked_fill(~paid | (value.abs() < NO_REWARD), 1.0)


@torch.no_grad()
def candidate_advantages(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None,
    lengths: Tensor | ArrayLike,
    index: GroupIndex,
    *,
    utility: str = "max",
    allocator: str = "shapley",
    advantage: str = "reweight",
    length_correction: bool = False,
    norm_by_std: bool = True,
    epsilon: float = 1e-6,
    scores: Tensor | ArrayLike | None = None,
) -> tuple[Tensor, Tensor]:
    """Advantages of the candidates of N responses, and of the tokens outside them.

    The latter are verl's GRPO advantages A_i = (R_i - mean) / (std + epsilon) over the group, with
    ddof 1 and mean 0, std 1 for a group of one. They are computed in float64: a group of equal
    float32 rewards gets exactly 0, where verl's float32 leaves rounding error / epsilon.

    Args:
        rewards: (N, K) candidate rewards, one row a response; types as `check_rewards` says.
        mask: (N, K), true where there is a candidate, in any columns; None: everywhere.
        lengths: (N, K) response tokens that each candidate owns.
        index: (N,) group ids.
        utility: A name in `shape_grpo.credit.UTILITIES`.
        allocator: A name in `shape_grpo.credit.ALLOCATORS`.
        advantage: A name in `READINGS`. ``reweight``: w_ik * A_i, with w from `credit_weights`.
        length_correction: Make the mean of w over the tokens of a response's candidates 1, whatever
            their lengths; without it that holds for equal lengths.
        norm_by_std: Divide by std + epsilon (verl's ``norm_adv_by_std_in_grpo``).
        epsilon: As in verl.
        scores: (N,) rewards R_i of the responses as the trainer knows them. Default: the set
            utility of ``rewards``. NaN marks a response whose reward is unknown: it is left out of
            its group's statistics, its rewards are not read, and all its advantages are 0.

    Returns:
        ``(candidate, shared)``: (N, K), 0 where there is no candidate, and (N,), both in the
        floating type of ``rewards``, without gradient.

    Raises:
        ValueError: An unknown name, shapes that do not fit, a candidate's reward NaN or infinite,
            a negative length, or an infinite score.
    """
    read = READINGS.find(advantage)
    rewards, lengths = torch.as_tensor(rewards), torch.as_tensor(lengths)
    device = rewards.device
    group = group_numbers(index).to(device)
    lengths = lengths.to(device)
    if scores is not None:
        scores = torch.as_tensor(scores, device=device).detach().double()
    if mask is None:
        mask = torch.ones_like(rewards, dtype=torch.bool)
    mask = torch.as_tensor(mask, device=device).bool()
    _check_shapes(rewards, mask, lengths, group, scores)

    if scores is not None:
        mask = mask & ~scores.isnan().unsqueeze(1)
    rewards, mask = check_rewards(rewards, mask)
    dtype, rewards = rewards.dtype, rewards.double()
    if scores is None:
        scores = set_utility(rewards, mask, utility=utility)
    _check_values(mask, lengths, scores)

    known = ~scores.isnan()
    mean, std = group_mean_std(scores, group, known)
    shared = scores - mean
    if norm_by_std:
        shared = shared / (std + epsilon)
    shared = shared.masked_fill(~known, 0.0)
    weights = credit_weights(
        rewards,
        mask,
        lengths,
        utility=utility,
        allocator=allocator,
        length_correction=length_correction,
    )
    candidate = read(Credit(weights=weights, advantages=shared)).masked_fill(~mask, 0.0)
    return candidate.to(dtype), shared.to(dtype)


def _check_shapes(
    rewards: Tensor, mask: Tensor, lengths: Tensor, group: Tensor, scores: Tensor | None
) -> None:
    per_response = [group] if scores is None else [group, scores]
    if not rewards.shape == mask.shape == lengths.shape or any(
        x.shape != rewards.shape[:1] for x in per_response
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in (rewards, mask, lengths, *per_response))
        raise ValueError(
            "rewards, mask and lengths must have shape (N, K), index and scores (N,); "
            f"in this order they have {shapes}"
        )


def _check_values(mask: Tensor, lengths: Tensor, scores: Tensor) -> None:
    negative = mask & (lengths < 0)
    if negative.any():
        row, column = negative.nonzero()[0].tolist()
        raise ValueError(
            f"lengths[{row}, {column}] is {lengths[row, column].item()}; "
            "a candidate has 0 tokens or more"
        )
    if scores.isinf().any():
        row = int(scores.isinf().nonzero()[0])
        raise ValueError(
            f"scores[{row}] is {scores[row].item()}; use a finite reward, or NaN for an unknown one"
        )
