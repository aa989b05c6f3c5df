"""What is accepted as the rewards of a batch of sets."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def check_rewards(
    rewards: Tensor | ArrayLike, mask: Tensor | ArrayLike | None = None
) -> tuple[Tensor, Tensor]:
    """Rewards and mask as tensors that can be computed with.

    Args:
        rewards: (N, K), one row a set: a real tensor, an array or nested lists. Integers and bools
            become torch's default float type; floating types are kept.
        mask: (N, K), true where there is a candidate, in any columns. Default: everywhere.

    Returns:
        ``(rewards, mask)``: detached floating rewards, 0 where there is no candidate, whatever
        stood there; and a bool mask.

    Raises:
        ValueError: The shape is not (N, K), the mask has another, the rewards are complex, or a
            candidate's reward is NaN or infinite.
    """
    rewards = torch.as_tensor(rewards).detach()
    if rewards.dim() != 2 or rewards.is_complex():
        raise ValueError(
            "rewards must be real numbers of shape (N, K), one row a set, not "
            f"{rewards.dtype} of shape {tuple(rewards.shape)}; write one set as [[5, 4, 3]]"
        )
    if not rewards.is_floating_point():
        rewards = rewards.to(torch.get_default_dtype())
    if mask is None:
        mask = torch.ones_like(rewards, dtype=torch.bool)
    mask = torch.as_tensor(mask, device=rewards.device).bool()
    if mask.shape != rewards.shape:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, rewards {tuple(rewards.shape)}; "
            "they must be the same"
        )
    rewards = rewards.masked_fill(~mask, 0.0)
    if not rewards.isfinite().all():
        row, column = (~rewards.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"rewards[{row}, {column}] is {rewards[row, column].item()}; give the candidate a "
            "finite reward or mask it out"
        )
    return rewards, mask
