"""TRL's `GRPOTrainer` with the completions of a prompt as the candidates of one set (TRL 1.16)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from shape_grpo.advantage import CandidateRecord, rollout_advantages
from shape_grpo.config import LARGEST, ShapeGRPOConfig
from shape_grpo.rewards import StepMetrics
from shape_grpo.trl.checks import check_settings

logger = logging.getLogger(__name__)


class RolloutsTrainer(GRPOTrainer):
    """TRL's GRPO trainer for sets of rollouts: best-of-k, and any utility and allocator.

    Reward functions, reward models, losses and all else are TRL's. An advantage is one number per
    completion, as TRL's own: its share in the utility of its group's rewards, less the mean of the
    shares, over the standard deviation of the rewards (`shape_grpo.advantage.rollout_advantages`).
    A completion for which every reward function returns None leaves its set, and so does one whose
    reward is of a magnitude above `shape_grpo.config.LARGEST`.

    TRL's tables of completions show TRL's own advantages. ``shape_grpo/groups_without_spread``
    counts the groups whose rewards are equal, and there is a warning where most are.

    Args:
        model: As `GRPOTrainer`.
        reward_funcs: As `GRPOTrainer`.
        args: TRL's settings. ``scale_rewards`` must be "group" or "none".
        shape_grpo: Utility and allocator, as in ``ShapeGRPOConfig(allocator="best_of_k",
            allocator_options={"k": 4})``. Its ``norm_by_std`` follows from ``scale_rewards``. The
            default ``epsilon`` is verl's, 1e-6; with 1e-4 and k = 1 the advantages are TRL's own.
        **options: As `GRPOTrainer`.

    Raises:
        ValueError: A setting has no meaning for sets of rollouts, or k exceeds their number.
    """

    _tag_names: ClassVar = ["trl", "shape-grpo"]
    _rewards: Tensor

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: GRPOConfig | None = None,
        *,
        shape_grpo: ShapeGRPOConfig | None = None,
        **options: Any,
    ) -> None:
        check_settings(args, ("scale_rewards", "multi_objective_aggregation"))
        super().__init__(model, reward_funcs, args, **options)
        by_std = self.scale_rewards == "group"
        self.shape_grpo = replace(shape_grpo or ShapeGRPOConfig(), norm_by_std=by_std)
        self.shape_grpo.check_rollouts(self.num_generations, "num_generations")
        utility = self.shape_grpo.method.utility
        if utility.takes_vectors or utility.takes_texts:
            raise ValueError(
                f"utility={self.shape_grpo.utility}: reads more of a completion than a number, and "
                "TRL's reward functions return one number per completion. Write another utility."
            )
        self._step_metrics = StepMetrics(
            self.shape_grpo,
            "num_generations",
            logger.warning if self.accelerator.is_main_process else logger.debug,
        )

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keep the rewards (N, functions) of all processes, as TRL gathers them."""
        self._rewards = super()._calculate_rewards(*args, **kwargs)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        # As in TRL: NaN is a function that does not apply.
        rewards = (self._rewards * self.reward_weights.to(self._rewards.device)).nansum(dim=1)
        if int((rewards.abs() > LARGEST).sum()):
            logger.warning(
                "Rewards of a magnitude above %g: their completions leave their sets, and have the "
                "advantage 0.",
                LARGEST,
            )
        size = self.num_generations if self.model.training else self.num_generations_eval
        known = ~self._rewards.isnan().all(dim=1) & (rewards.abs() <= LARGEST)
        groups = torch.arange(len(rewards)) // size
        self._count_groups(rewards, known, groups)
        advantages = rollout_advantages(rewards, groups, self.shape_grpo.method, known=known)
        count = len(output["advantages"])
        first = self.accelerator.process_index * count
        output["advantages"] = advantages[first : first + count].to(output["advantages"])
        return output

    def _count_groups(self, rewards: Tensor, known: Tensor, groups: Tensor) -> None:
        in_training = self.model.training
        pairs = zip(rewards.tolist(), known.tolist(), strict=True)
        records = [CandidateRecord([reward if is_known else None]) for reward, is_known in pairs]
        counts = self._step_metrics.of_groups(records, groups, in_training=in_training)
        for name, value in counts.items():
            self._metrics["train" if in_training else "eval"][name].append(value)
