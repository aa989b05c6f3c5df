"""From candidate rewards, lengths and groups to the advantage of each candidate."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.advantage.readings import READINGS, Credit
from shape_grpo.advantage.statistics import GroupIndex, group_mean_std, group_numbers
from shape_grpo.credit import (
    Shares,
    Utility,
    check_rewards,
    make_allocator,
    make_utility,
    set_utility,
    share_sets,
    weigh_shares,
)
from shape_grpo.credit.allocators import share_checked


@torch.no_grad()
def candidate_advantages(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None,
    lengths: Tensor | ArrayLike,
    index: GroupIndex,
    *,
    utility: str | Utility = "max",
    allocator: str = "shapley",
    allocator_options: Mapping[str, Any] | None = None,
    advantage: str = "reweight",
    length_correction: bool = False,
    norm_by_std: bool = True,
    epsilon: float = 1e-6,
    scores: Tensor | ArrayLike | None = None,
    shares: Callable[[], Shares] | None = None,
) -> tuple[Tensor, Tensor]:
    """Advantages of the candidates of N responses, and of the tokens outside them.

    The latter are verl's GRPO advantages A_i = (R_i - mean) / (std + epsilon) over the group, with
    ddof 1 and mean 0, std 1 for a group of one. They are computed in float64: a group of equal
    float32 rewards gets exactly 0, where verl's float32 leaves rounding error / epsilon.

    Args:
        rewards: (N, K) candidate rewards, one row a response, or (N, K, M) for a utility that takes
            vectors; types as `check_rewards` says.
        mask: (N, K), true where there is a candidate, in any columns; None: everywhere.
        lengths: (N, K) response tokens that each candidate owns.
        index: (N,) group ids.
        utility: A name in `shape_grpo.credit.UTILITIES`, or a `shape_grpo.credit.Utility`.
        allocator: A name in `shape_grpo.credit.ALLOCATORS`. ``uniform`` is GRPO in every reading.
        allocator_options: Its options, as ``{"alpha": 3, "beta": 1}`` of ``beta_shapley``.
        advantage: A name in `READINGS`. ``reweight``: w_ik * A_i, with w from
            `shape_grpo.credit.credit_weights`.
        length_correction: Make the mean of w over the tokens of a response's candidates 1, whatever
            their lengths; without it that holds for equal lengths.
        norm_by_std: Divide by std + epsilon (verl's ``norm_adv_by_std_in_grpo``).
        epsilon: As in verl.
        scores: (N,) rewards R_i of the responses as the trainer knows them. Default: the set
            utility of ``rewards``. NaN marks a response whose reward is unknown: it is left out of
            its group's statistics, its rewards are not read, and all its advantages are 0.
        shares: Gives the float64 `shape_grpo.credit.share_sets` of these rewards, for a caller who
            needs them too (`CandidateBatch.share`). Such rewards are checked already, and 0 where
            there is no candidate.

    Returns:
        ``(candidate, shared)``: (N, K), 0 where there is no candidate, and (N,), both in the
        floating type of ``rewards``, without gradient.

    Raises:
        ValueError: An unknown name, an option that is unknown, missing or not allowed, shapes that
            do not fit, a candidate's reward NaN or infinite, a negative length, or an infinite
            score.
    """
    read, game = READINGS.find(advantage), make_utility(utility)
    share_out = make_allocator(allocator, **allocator_options or {})
    rewards, lengths = torch.as_tensor(rewards), torch.as_tensor(lengths)
    device = rewards.device
    group = group_numbers(index).to(device)
    lengths = lengths.to(device)
    if scores is not None:
        scores = torch.as_tensor(scores, device=device).detach().double()
    if mask is None:
        mask = torch.ones(rewards.shape[:2], dtype=torch.bool)
    mask = torch.as_tensor(mask, device=device).bool()
    _check_shapes(rewards, mask, lengths, group, scores)

    known = torch.ones_like(group, dtype=torch.bool) if scores is None else ~scores.isnan()
    mask = mask & known.unsqueeze(1)
    if shares is None:
        rewards, mask = check_rewards(rewards, mask, game)
    if scores is None:
        scores = set_utility(rewards.double(), mask, utility=game)
    _check_values(mask, lengths, scores)

    advantages, std = _group_advantages(scores, known, group, norm_by_std, epsilon)
    if allocator == "uniform":
        candidate = advantages.unsqueeze(1).expand(mask.shape)
    else:
        candidate = read(
            Credit(
                rewards=rewards if game.takes_vectors else rewards.double(),
                mask=mask,
                tokens=(lengths.masked_fill(~mask, 0) if length_correction else mask).double(),
                make_shares=shares
                or partial(share_sets, rewards, mask, game, share_out, torch.float64),
                weigh=partial(
                    weigh_shares,
                    mask=mask,
                    lengths=lengths,
                    allocator=allocator,
                    length_correction=length_correction,
                ),
                share_out=partial(
                    share_checked,
                    mask=mask,
                    game=game,
                    share_out=share_out,
                    dtype=torch.float64,
                ),
                group=group,
                advantages=advantages,
                std=std,
                norm_by_std=norm_by_std,
                epsilon=epsilon,
            )
        )
    dtype = rewards.dtype
    return candidate.masked_fill(~mask, 0.0).to(dtype), advantages.to(dtype)


def _group_advantages(
    scores: Tensor, known: Tensor, group: Tensor, norm_by_std: bool, epsilon: float
) -> tuple[Tensor, Tensor]:
    """A_i, 0 where the score is not known, and the standard deviations of the groups; each (N,)."""
    alone = torch.bincount(group)[group] == 1
    mean, std = group_mean_std(scores, group, known, alone)
    advantages = scores - mean
    if norm_by_std:
        advantages = advantages / (std + epsilon)
    return advantages.masked_fill(~known, 0.0), std


def _check_shapes(
    rewards: Tensor, mask: Tensor, lengths: Tensor, group: Tensor, scores: Tensor | None
) -> None:
    per_response = [group] if scores is None else [group, scores]
    if not rewards.shape[:2] == mask.shape == lengths.shape or any(
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
