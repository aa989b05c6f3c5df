"""Checks of the rewards of a batch of sets."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shape_grpo.credit.ordered import Max
from shape_grpo.credit.utilities import Utility


def check_rewards(
    rewards: Tensor | ArrayLike,
    mask: Tensor | ArrayLike | None = None,
    utility: Utility | None = None,
) -> tuple[Tensor, Tensor]:
    """Check rewards and mask, and return them as tensors.

    Args:
        rewards: (N, K), one row per set: a real tensor, an array or nested lists; (N, K, M) for a
            utility that takes vectors. Integers and bools become torch's default float type;
            floating types are kept.
        mask: (N, K), true where there is a candidate, in any columns. Default: everywhere.
        utility: Says which rewards it allows. Default: all finite ones.

    Returns:
        ``(rewards, mask)``: detached floating rewards, 0 where there is no candidate, whatever
        stood there; and a bool mask.

    Raises:
        ValueError: The shape is not the utility's, the mask has another, the rewards are complex,
            or the utility does not allow a candidate's reward, or reads texts.
    """
    utility = utility or Max()
    if utility.takes_texts:
        raise ValueError(
            f"{type(utility).__name__} reads texts: give the utility of one set of them, as "
            "utility.bind(texts) returns it"
        )
    rewards = torch.as_tensor(rewards).detach()
    if rewards.dim() != 2 + utility.takes_vectors or rewards.is_complex():
        shape = "(N, K, M), one vector per candidate" if utility.takes_vectors else "(N, K)"
        example = "[[[1, 0], [0, 1]]]" if utility.takes_vectors else "[[5, 4, 3]]"
        raise ValueError(
            f"rewards must be real numbers of shape {shape}, one row per set, not "
            f"{rewards.dtype} of shape {tuple(rewards.shape)}; write one set as {example}"
        )
    if not rewards.is_floating_point():
        rewards = rewards.to(torch.get_default_dtype())
    if mask is None:
        mask = torch.ones(rewards.shape[:2], dtype=torch.bool, device=rewards.device)
    else:
        mask = torch.as_tensor(mask, device=rewards.device).bool()
        if mask.shape != rewards.shape[:2]:
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}, rewards {tuple(rewards.shape)}; "
                "they must be the same"
            )
        candidates = mask.unsqueeze(2) if utility.takes_vectors else mask
        rewards = rewards.masked_fill(~candidates, 0.0)
    allowed = utility.allows(rewards)
    if not allowed.all():
        at = (~allowed).nonzero()[0].tolist()
        raise ValueError(
            f"rewards{at} is {rewards[tuple(at)].item()}; allowed are {utility.domain}: give the "
            "candidate such a reward or mask it out"
        )
    return rewards, mask
