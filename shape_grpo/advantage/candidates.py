"""From candidate rewards, lengths and groups to the advantage of each candidate."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.advantage.formulas import ADVANTAGES, Credit
from shape_grpo.advantage.method import Method
from shape_grpo.advantage.statistics import GroupIndex, group_mean_std, group_numbers
from shape_grpo.credit import Shares, check_rewards, set_utility


@torch.no_grad()
def candidate_advantages(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None,
    lengths: Tensor | ArrayLike,
    index: GroupIndex,
    method: Method,
    *,
    scores: Tensor | ArrayLike | None = None,
    shares: Shares | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the advantages of the candidates of N responses, and of the tokens outside them.

    The latter are verl's GRPO advantages A_i = (R_i - mean) / (std + epsilon) over the group, with
    ddof 1 and mean 0, std 1 for a group of one. They are computed in float64: a group of equal
    float32 rewards gets exactly 0, where verl's float32 leaves rounding error / epsilon.

    Args:
        rewards: (N, K) candidate rewards, one row per response, or (N, K, M) for a utility that
            takes vectors; types as `check_rewards` says.
        mask: (N, K), True where there is a candidate, in any columns; None: everywhere.
        lengths: (N, K) response tokens that each candidate owns.
        index: (N,) group ids.
        method: How rewards become advantages.
        scores: (N,) rewards R_i of the responses as the trainer knows them. Default: the set
            utility of ``rewards``. NaN marks a response whose reward is unknown: it is left out of
            its group's statistics, its rewards are not read, and all its advantages are 0.
        shares: Shares of these rewards under the method, where the caller has them
            (`CandidateBatch.compute_shares`). Such rewards are checked already, and 0 where there
            is no candidate.

    Returns:
        ``(candidate, shared)``: (N, K), 0 where there is no candidate, and (N,), both in the
        floating type of ``rewards``, without gradient.

    Raises:
        ValueError: Shapes that do not fit, a candidate's reward NaN or infinite, a negative length,
            or an infinite score.
    """
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

    utility = method.utility
    known = torch.ones_like(group, dtype=torch.bool) if scores is None else ~scores.isnan()
    mask = mask & known.unsqueeze(1)
    if shares is None:
        rewards, mask = check_rewards(rewards, mask, utility)
    if scores is None:
        scores = set_utility(rewards.double(), mask, utility=utility)
    _check_values(mask, lengths, scores)

    advantages, std = _group_advantages(scores, known, group, method)
    if method.allocator.is_uniform:
        candidate = advantages.unsqueeze(1).expand(mask.shape)
    else:
        # Vectors stay in their own type, which may be an eighth of float64's memory.
        exact = rewards if utility.takes_vectors else rewards.double()
        credit = Credit(method, exact, mask, lengths, group, advantages, std, shares)
        candidate = ADVANTAGES[method.advantage](credit)
    dtype = rewards.dtype
    return candidate.masked_fill(~mask, 0.0).to(dtype), advantages.to(dtype)


def _group_advantages(
    scores: Tensor, known: Tensor, group: Tensor, method: Method
) -> tuple[Tensor, Tensor]:
    """Return A_i, 0 where the score is unknown, and the standard deviations of the groups, (N,)."""
    alone = torch.bincount(group)[group] == 1
    mean, std = group_mean_std(scores, group, known, alone)
    advantages = scores - mean
    if method.norm_by_std:
        advantages = advantages / (std + method.epsilon)
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
