"""The block ``algorithm.shape_grpo`` of a verl configuration, and what must hold around it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shape_grpo.advantage import READINGS
from shape_grpo.candidates import FORMATS
from shape_grpo.credit import ALLOCATORS, UTILITIES, Utility, make_utility

ESTIMATOR = "shape_grpo"
REWARD_MANAGER = "multi_candidate"
TRAINER_MODES = {
    "shape_grpo": "sync",
    "shape_grpo_colocate_async": "colocate_async",
    "shape_grpo_separate_async": "separate_async",
}

RULES = ("score", "floor", "drop")
"""What happens to a candidate that is not as it should be.

- ``score``: it goes to the reward function like any other.
- ``floor``: it gets ``floor_reward`` without a call of the reward function.
- ``drop``: it is no candidate; its tokens are shared tokens of the response.
"""


@dataclass
class ShapeGRPOConfig:
    """``algorithm.shape_grpo``: how a set is scored, split and credited.

    Attributes:
        utility: The set's score U from its candidates' rewards.
        utility_options: Options of the utility (``m`` of ``top_m``, for instance).
        allocator: How U is split over the candidates.
        advantage: How shares become advantages.
        length_correction: Whether credit weights account for unequal candidate lengths
            (``shape_grpo.advantage.candidate_advantages``).
        epsilon: Added to the group's standard deviation, as in verl's GRPO.
        format: How candidates are written: ``xml`` or ``numbered``.
        max_candidates: Candidates a response may have; those beyond fall under ``surplus``.
        ignore_thoughts: Whether candidates before ``</think>`` are none.
        truncated: Rule for a last candidate that the response's end cut off.
        empty: Rule for a candidate without text.
        duplicate: Rule for a candidate whose text equals an earlier one's, but for white space and
            case. Under ``score`` both take part, and symmetry makes them share what one would get.
        surplus: Rule for candidates beyond ``max_candidates``.
        floor_reward: The reward under the rule ``floor``, and the score of a response without any
            candidate.
        on_error: ``skip``: a candidate whose reward function raised, or returned no finite number,
            leaves the set, and its tokens count as shared. ``raise``: the run ends at that step.
    """

    utility: str = "max"
    utility_options: dict[str, Any] = field(default_factory=dict)
    allocator: str = "shapley"
    advantage: str = "reweight"
    length_correction: bool = False
    epsilon: float = 1e-6
    format: str = "xml"
    max_candidates: int | None = None
    ignore_thoughts: bool = True
    truncated: str = "drop"
    empty: str = "drop"
    duplicate: str = "score"
    surplus: str = "drop"
    floor_reward: float = 0.0
    on_error: str = "skip"

    @classmethod
    def from_algorithm(cls, algorithm: Any) -> ShapeGRPOConfig:
        """The validated block of a verl ``algorithm`` config; defaults where it is absent.

        Raises:
            ValueError: An unknown key or a value that is not allowed; the message names what is.
        """
        block = algorithm.get("shape_grpo") or {}
        if isinstance(block, DictConfig):
            block = OmegaConf.to_container(block, resolve=True)
        if not isinstance(block, Mapping):
            raise ValueError(f"algorithm.shape_grpo={block}: must be a block of keys and values.")
        known = [entry.name for entry in fields(cls)]
        for key in block:
            if key not in known:
                where = f"algorithm.shape_grpo.{key}"
                raise ValueError(_unknown("key", where, str(key), known))
        try:
            merged = OmegaConf.merge(OmegaConf.structured(cls), block)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"algorithm.shape_grpo.{error.full_key}: {reason}") from None
        config: ShapeGRPOConfig = OmegaConf.to_object(merged)  # type: ignore[assignment]
        config._check_values()
        return config

    @cached_property
    def game(self) -> Utility:
        """The utility with its options.

        Raises:
            ValueError: An option that is unknown, missing or not allowed.
        """
        try:
            return make_utility(self.utility, **self.utility_options)
        except ValueError as error:
            where = f"algorithm.shape_grpo.utility_options={self.utility_options}"
            raise ValueError(f"{where}: {error}") from error

    def _check_values(self) -> None:
        allowed: dict[str, Iterable[str]] = {
            "utility": UTILITIES,
            "allocator": ALLOCATORS,
            "advantage": READINGS,
            "format": FORMATS,
            "truncated": RULES,
            "empty": RULES,
            "duplicate": RULES,
            "surplus": RULES,
            "on_error": ("skip", "raise"),
        }
        for name, values in allowed.items():
            value = getattr(self, name)
            if value not in values:
                raise ValueError(
                    _unknown("value", f"algorithm.shape_grpo.{name}={value}", value, list(values))
                )
        utility = self.game
        floor = torch.tensor(self.floor_reward)
        if not utility.takes_vectors and not utility.allows(floor).all():
            raise ValueError(
                f"algorithm.shape_grpo.floor_reward={self.floor_reward}: utility {self.utility} "
                f"takes {utility.domain}."
            )
        if self.max_candidates is not None and self.max_candidates < 1:
            raise ValueError(
                f"algorithm.shape_grpo.max_candidates={self.max_candidates}: must be 1 or more, "
                "or null for no limit."
            )
        if not self.epsilon > 0:
            raise ValueError(f"algorithm.shape_grpo.epsilon={self.epsilon}: must be positive.")


def _unknown(what: str, where: str, given: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(given, allowed, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{where}: unknown {what}.{hint} Allowed: {', '.join(allowed)}."


def check_trainer_config(config: DictConfig) -> ShapeGRPOConfig:
    """Check a whole verl configuration before anything starts.

    Args:
        config: verl's ``ppo_trainer`` configuration.

    Returns:
        Its validated ``algorithm.shape_grpo`` block.

    Raises:
        ValueError: What is wrong, where, and what to write instead.
    """
    block = ShapeGRPOConfig.from_algorithm(config.algorithm)
    if config.algorithm.adv_estimator != ESTIMATOR:
        return block
    if not config.trainer.use_v1:
        raise ValueError(
            f"adv_estimator={ESTIMATOR} runs in verl's V1 trainer only: write trainer.use_v1=true."
        )
    mode = config.trainer.v1.trainer_mode
    for ours, verls in TRAINER_MODES.items():
        if mode == verls:
            raise ValueError(
                f"verl's own trainer {mode} does not pass candidates to the estimator: write "
                f"trainer.v1.trainer_mode={ours}."
            )
    manager = config.reward.reward_manager.name
    if manager != REWARD_MANAGER:
        raise ValueError(
            f"adv_estimator={ESTIMATOR} needs one reward a candidate: write "
            f"reward.reward_manager.name={REWARD_MANAGER} (it is {manager})."
        )
    reward_model = config.reward.reward_model
    if reward_model.enable and config.reward.custom_reward_function.path is None:
        raise ValueError(
            "verl's reward model alone scores a whole response. Write a reward function that asks "
            "it about one candidate: reward.custom_reward_function.path=..."
        )
    if reward_model.enable and not reward_model.enable_resource_pool:
        raise ValueError(
            "A reward model on the trainer's own GPUs scores after the rollout, where verl passes "
            "no candidates on: write reward.reward_model.enable_resource_pool=true."
        )
    if config.algorithm.use_kl_in_reward:
        raise ValueError(
            "algorithm.use_kl_in_reward=true mixes a penalty a token into the set's reward, which "
            "is then no longer the candidates' to split: write "
            "actor_rollout_ref.actor.use_kl_loss=true instead."
        )
    return block
