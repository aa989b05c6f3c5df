"""The block ``algorithm.shape_grpo``: how a set is scored, split and credited. Needs no verl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shape_grpo.advantage import READINGS, Reward, stack_rewards
from shape_grpo.candidates import CandidateRules
from shape_grpo.credit import (
    ALLOCATORS,
    UTILITIES,
    Utility,
    make_allocator,
    make_utility,
    set_utility,
)
from shape_grpo.registry import check_choice, did_you_mean

BLOCK = "algorithm.shape_grpo"
"""Where a verl configuration has it."""


@dataclass(frozen=True)
class ShapeGRPOConfig(CandidateRules):
    """All settings of this package: the rules for candidates (`CandidateRules`), and these.

    Attributes:
        utility: The set's score U from its candidates' rewards.
        utility_options: Options of the utility (``m`` of ``top_m``, for instance).
        allocator: How U is split over the candidates.
        allocator_options: Options of the allocator (``alpha`` and ``beta`` of ``beta_shapley``, for
            instance).
        advantage: How shares become advantages.
        length_correction: Whether credit weights account for unequal candidate lengths
            (``shape_grpo.advantage.candidate_advantages``).
        epsilon: Added to the group's standard deviation, as in verl's GRPO.
        floor_reward: The reward under the rule ``floor``, and the score of a response without any
            candidate.
        on_error: ``skip``: a candidate whose reward function raised, or returned no finite number,
            leaves the set, and its tokens count as shared. ``raise``: the run ends, as if
            ``max_error_share`` were 0.
        max_error_share: The run ends where more of the candidates have failed: in training, taken
            over the last steps; in a validation, over all of it. At one half the rewards say more
            of the failure than of the policy. 1 never ends a run.
        error_window: Steps that the share is taken over in training. With three, a run outlives one
            step whose rewards all fail (a judge that restarts) but not two, and ends at once if
            that is its first: it was set up wrong.
        reward_timeout: Seconds after which a reward function that has not returned counts as one
            that raised (verl; TRL gives it all candidates at once). Twice what ACLSum's judge takes
            at worst, four retries of 60 seconds, and far above a sandbox's 10 seconds a test.
        log_samples_every: Steps from one look at responses and their credit to the next, from the
            first step on; 0 takes none (verl; TRL has ``log_completions``).
        log_samples: Responses at each look, answers to one prompt.

    Raises:
        ValueError: A value that is not allowed; the message names the setting and what is.
    """

    utility: str = "max"
    utility_options: dict[str, Any] = field(default_factory=dict)
    allocator: str = "shapley"
    allocator_options: dict[str, Any] = field(default_factory=dict)
    advantage: str = "reweight"
    length_correction: bool = False
    epsilon: float = 1e-6
    floor_reward: float = 0.0
    on_error: str = "skip"
    max_error_share: float = 0.5
    error_window: int = 3
    reward_timeout: float = 600.0
    log_samples_every: int = 10
    log_samples: int = 4

    def __post_init__(self) -> None:
        self._convert_types()
        super().__post_init__()
        check_choice("utility", self.utility, UTILITIES)
        check_choice("allocator", self.allocator, ALLOCATORS)
        check_choice("advantage", self.advantage, READINGS)
        try:
            make_allocator(self.allocator, **self.allocator_options)
        except ValueError as error:
            raise ValueError(f"allocator_options={self.allocator_options}: {error}") from error
        check_choice("on_error", self.on_error, ("skip", "raise"))
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"max_error_share={self.max_error_share}: must be from 0 to 1.")
        if self.error_window < 1:
            raise ValueError(f"error_window={self.error_window}: must be 1 step or more.")
        utility = self.game
        floor = torch.tensor(self.floor_reward)
        if not utility.takes_vectors and not utility.allows(floor).all():
            raise ValueError(
                f"floor_reward={self.floor_reward}: utility {self.utility} takes {utility.domain}."
            )
        if not 0 < self.reward_timeout < math.inf:
            raise ValueError(
                f"reward_timeout={self.reward_timeout}: must be a number of seconds above 0. A "
                "function that hangs would hold up the run for ever without one."
            )
        if self.log_samples_every < 0:
            raise ValueError(
                f"log_samples_every={self.log_samples_every}: must be a number of steps, or 0 for "
                "no samples."
            )
        if self.log_samples < 1:
            raise ValueError(
                f"log_samples={self.log_samples}: must be 1 or more; for none write "
                "log_samples_every=0."
            )
        if not self.epsilon > 0:
            raise ValueError(f"epsilon={self.epsilon}: must be positive.")

    @classmethod
    def from_algorithm(cls, algorithm: Any) -> ShapeGRPOConfig:
        """The block of a verl ``algorithm`` config; defaults where it is absent.

        Raises:
            ValueError: An unknown key or a value that is not allowed; the message names what is.
        """
        block = algorithm.get("shape_grpo") or {}
        if isinstance(block, DictConfig):
            block = OmegaConf.to_container(block, resolve=True)
        if not isinstance(block, Mapping):
            raise ValueError(f"{BLOCK}={block}: must be a block of keys and values.")
        known = [entry.name for entry in fields(cls)]
        for key in map(str, block):
            if key not in known:
                raise ValueError(
                    f"{BLOCK}.{key}: unknown key.{did_you_mean(key, known)} "
                    f"Allowed: {', '.join(known)}."
                )
        try:
            return cls(**block)
        except ValueError as error:
            raise ValueError(f"{BLOCK}.{error}") from error

    @cached_property
    def game(self) -> Utility:
        """The utility with its options."""
        try:
            return make_utility(self.utility, **self.utility_options)
        except ValueError as error:
            raise ValueError(f"utility_options={self.utility_options}: {error}") from error

    @property
    def allowed_error_share(self) -> float:
        """``max_error_share``; 0 under ``on_error=raise``."""
        return 0.0 if self.on_error == "raise" else self.max_error_share

    @property
    def floor(self) -> Reward:
        """The reward under the rule ``floor``; a candidate that reaches nothing where the utility
        takes vectors.
        """
        return [] if self.game.takes_vectors else self.floor_reward

    def checked_reward(self, result: Any, text: str) -> float | list[float]:
        """What a reward function returned for the candidate ``text``, as floats.

        Raises:
            ValueError: The utility does not take it; NaN and infinity none does.
            TypeError: It is no number, or no list of numbers where the utility takes vectors.
        """
        vectors = self.game.takes_vectors
        if isinstance(result, str):
            raise TypeError(f"The reward function returned the text {result[:200]!r}.")
        try:
            reward = [float(value) for value in result] if vectors else float(result)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"The reward function returned {result!r:.200} for {text[:200]!r}; utility "
                f"{self.utility} takes {self.game.domain}."
            ) from error
        if reward == [] or not self.game.allows(torch.tensor(reward)).all():
            raise ValueError(
                f"The reward function returned {reward} for {text[:200]!r}; utility "
                f"{self.utility} takes {self.game.domain}."
            )
        return reward

    def set_score(self, rewards: Sequence[Reward]) -> float:
        """A response's score from the rewards of its candidates; without any, `floor_reward`."""
        if not rewards:
            return self.floor_reward
        stacked = stack_rewards([rewards], vectors=self.game.takes_vectors)
        return set_utility(stacked, utility=self.game).item()

    def _convert_types(self) -> None:
        """As YAML and command lines need it: ``1e-6`` and ``"3"`` become numbers.

        Raises:
            ValueError: A value that is not of its field's type.
        """
        try:
            typed = OmegaConf.structured(self, flags={"allow_objects": True})
            values = OmegaConf.to_container(typed, throw_on_missing=True)
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{error.full_key}: {reason}") from None
        assert isinstance(values, dict)
        for name, value in values.items():
            object.__setattr__(self, str(name), value)
