"""The block ``algorithm.shape_grpo``: all settings of this package, validated. Needs no verl."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from shape_grpo.advantage import (
    ADVANTAGES,
    CandidateRecord,
    GroupIndex,
    Method,
    lower_floors,
    scale_rewards,
    stack_rewards,
)
from shape_grpo.candidates import CandidateRules
from shape_grpo.credit import (
    ALLOCATORS,
    UTILITIES,
    LimitedLooks,
    Oracle,
    make_allocator,
    make_utility,
    set_utility,
)
from shape_grpo.methods import load_method, method_options
from shape_grpo.modules import import_extensions, import_external_modules
from shape_grpo.registry import check_choice, did_you_mean

BLOCK = "algorithm.shape_grpo"
"""Key of the block in a verl configuration."""

NORM_BY_STD = "norm_adv_by_std_in_grpo"
"""Key of verl's ``algorithm``: whether advantages are divided by the standard deviation."""

_MANY = CandidateRules.max_candidates
"""Default of ``max_candidates``, which says nothing about the prompts."""

LOWEST = "lowest"
"""Value of ``floor_reward``: as low as what was seen."""

LARGEST = 1e12
"""Largest magnitude of a reward: sums and squares of such rewards are finite in float32."""

NO_NUMBERS = ("score", "identity", "fallback")
"""Keys of a reward function's dict that have a meaning of their own; others may be rewards."""

_RENAMED = {
    "ignore_thoughts": "write thoughts=none for ignore_thoughts=false, and leave it out for true",
}
"""Keys of earlier versions, and what to write instead."""


def check_kind(*results: Any) -> None:
    """Check that results of a reward function are not of a kind that only looks like numbers.

    Python reads numbers from text and bytes, and lists the keys of a dict and a set in its order.

    Raises:
        TypeError: One is.
    """
    kinds = (str, bytes, bytearray, memoryview, Mapping, Set)
    if any(isinstance(each, kinds) for each in results):
        raise TypeError("Text, bytes, dicts and sets are no rewards.")


@dataclass(frozen=True)
class ShapeGRPOConfig(CandidateRules):
    """All settings of this package: the rules for candidates (`CandidateRules`), and these.

    Attributes:
        extensions: Paths of .py files, or names of modules, that register utilities, allocators,
            advantages and formats of your own. They are imported before any name is checked.
            Relative paths become absolute ones. `shape_grpo.modules.EXTERNAL_MODULES` names
            modules too, and verl imports these in each of its processes.
        utility: How the set's score U follows from its candidates' rewards; a name in
            `shape_grpo.credit.UTILITIES`.
        utility_options: Options of the utility (``m`` of ``top_m``, for instance).
        allocator: How U is split over the candidates; a name in `shape_grpo.credit.ALLOCATORS`.
        allocator_options: Options of the allocator (``alpha`` and ``beta`` of ``beta_shapley``, for
            instance).
        advantage: How shares become advantages; a name in `shape_grpo.advantage.ADVANTAGES`.
        length_correction: Whether credit weights account for unequal candidate lengths
            (`shape_grpo.advantage.Method`).
        epsilon: Number added to the group's standard deviation, as in verl's GRPO.
        reward_weights: Weights of the numbers in a reward function's dict whose weighted sum is the
            ``score``, as in ``{helpful: 0.7, short: 0.3}``. Empty: the function returns the score.
        normalize_rewards: ``group``: in training, each of these numbers is divided by its standard
            deviation over the candidates of the group before they are summed, so that none wins by
            its scale alone (GDPO, arXiv 2601.05242, which also subtracts the mean); a number that
            does not differ within the group counts 0. It needs ``floor_reward=lowest``, which is
            scaled with them. ``none``: they are summed as they are.
        floor_reward: Reward under the rule ``floor``, and the score of a response without another
            candidate that has a reward: a number, or ``lowest``, the lowest that this process has
            seen, and at most 0. With rewards of 0 and more that is 0, and below 0 an empty or
            repeated answer is never worth more than what was seen.
        on_error: ``skip``: a candidate whose reward function raised, or returned no finite number,
            leaves the set, and its tokens count as shared. ``raise``: the run ends, as if
            ``max_error_share`` were 0.
        max_error_share: Share of failed candidates above which the run ends: in training over the
            last ``error_window`` steps, in a validation over all of it. Above one half the rewards
            say more about the failure than about the policy. 1 never ends a run.
        error_window: Number of steps that the share is taken over in training. With three, a run
            survives one step whose rewards all fail (a judge that restarts) but not two. It ends at
            once if that is its first step: it was set up wrong.
        reward_timeout: Seconds after which a call of the reward function counts as failed. In TRL a
            call may hold all candidates of a batch. The default is twice the worst case of
            ACLSum's judge, four retries of 60 seconds, and far above a sandbox's 10 seconds per
            test.
        reward_calls: ``threads``: reward functions are called in threads of this process.
            ``processes``: in the main threads of processes of their own, for functions that use
            ``signal.alarm``, compute in Python, hang or crash. Each imports the function's file.
        per_response: Whether a reward function of TRL is called with the candidates of one response
            at a time, concurrently, or with those of all responses (TRL only).
        log_samples_every: Number of steps between two logs of responses with their credit, from the
            first step on; 0 logs none (verl only: TRL has ``log_completions``).
        log_samples: Number of responses per log, all of them answers to one prompt.
        norm_by_std: Whether advantages are divided by the group's standard deviation. No key of the
            block: verl has ``algorithm.norm_adv_by_std_in_grpo`` for it, TRL ``scale_rewards``.

    Raises:
        ValueError: A value is not allowed; the message names the setting and the allowed values.
    """

    extensions: list[str] = field(default_factory=list)
    utility: str = "max"
    utility_options: dict[str, Any] = field(default_factory=dict)
    allocator: str = "shapley"
    allocator_options: dict[str, Any] = field(default_factory=dict)
    advantage: str = "reweight"
    length_correction: bool = False
    epsilon: float = 1e-6
    reward_weights: dict[str, float] = field(default_factory=dict)
    normalize_rewards: str = "none"
    floor_reward: int | float | str = LOWEST
    on_error: str = "skip"
    max_error_share: float = 0.5
    error_window: int = 3
    reward_timeout: float = 600.0
    reward_calls: str = "threads"
    per_response: bool = False
    log_samples_every: int = 10
    log_samples: int = 4
    norm_by_std: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.extensions, str):
            object.__setattr__(self, "extensions", [self.extensions])
        self._convert_types()
        import_external_modules()
        object.__setattr__(self, "extensions", import_extensions(self.extensions))
        super().__post_init__()
        check_choice("utility", self.utility, UTILITIES)
        check_choice("allocator", self.allocator, ALLOCATORS)
        check_choice("advantage", self.advantage, ADVANTAGES)
        utility = self.method.utility
        self._check_reward_weights()
        if isinstance(utility, Oracle) and self.max_candidates not in (None, _MANY):
            utility.plan(self.max_candidates, self.method.allocator)
        check_choice("on_error", self.on_error, ("skip", "raise"))
        check_choice("reward_calls", self.reward_calls, ("threads", "processes"))
        if not 0 <= self.max_error_share <= 1:
            raise ValueError(f"max_error_share={self.max_error_share}: must be from 0 to 1.")
        if self.error_window < 1:
            raise ValueError(f"error_window={self.error_window}: must be 1 step or more.")
        self._check_floor_reward()
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

    def _check_floor_reward(self) -> None:
        utility = self.method.utility
        try:
            floor = self.fixed_floor
        except ValueError:
            raise ValueError(
                f"floor_reward={self.floor_reward}: must be a number, or {LOWEST}, the lowest "
                "reward so far and at most 0."
            ) from None
        if floor is None:
            return
        object.__setattr__(self, "floor_reward", floor)
        if not utility.takes_vectors and not utility.allows(torch.tensor(floor)).all():
            raise ValueError(
                f"floor_reward={self.floor_reward}: utility {self.utility} takes {utility.domain}."
            )
        if not abs(floor) <= LARGEST:  # or it is NaN
            raise ValueError(f"floor_reward={floor}: must be from {-LARGEST:g} to {LARGEST:g}.")
        if self.normalize_rewards == "group":
            raise ValueError(
                f"floor_reward={floor:g}: normalize_rewards=group scales the rewards of each "
                "group, and a number beside them would keep its scale. Write floor_reward="
                f"{LOWEST}, the lowest of the group and at most 0."
            )

    def _check_reward_weights(self) -> None:
        check_choice("normalize_rewards", self.normalize_rewards, ("none", "group"))
        utility, weights = self.method.utility, self.reward_weights
        if not all(map(math.isfinite, weights.values())) or (weights and not any(weights.values())):
            raise ValueError(f"reward_weights={weights}: must be finite numbers, not all 0.")
        if any(abs(weight) > LARGEST for weight in weights.values()):
            raise ValueError(f"reward_weights={weights}: must be from {-LARGEST:g} to {LARGEST:g}.")
        if taken := weights.keys() & NO_NUMBERS:
            raise ValueError(
                f"reward_weights names {', '.join(taken)}, which has another meaning in a reward "
                "function's dict: return the number under another name."
            )
        if weights and (utility.takes_vectors or isinstance(utility, Oracle)):
            raise ValueError(
                f"reward_weights={weights}: utility {self.utility} takes no sum of numbers."
            )
        if self.normalize_rewards == "group" and (not weights or utility.takes_texts):
            reason = (
                f"utility {self.utility} is split before the group is known"
                if weights
                else "write reward_weights, the numbers that are normalised"
            )
            raise ValueError(f"normalize_rewards=group: {reason}.")

    @classmethod
    def from_algorithm(cls, algorithm: Any) -> ShapeGRPOConfig:
        """Read the block of a verl ``algorithm`` config; defaults where it is absent.

        Raises:
            ValueError: A key is unknown or a value is not allowed; the message names the allowed
                ones.
        """
        block = algorithm.get("shape_grpo") or {}
        if isinstance(block, DictConfig):
            block = OmegaConf.to_container(block, resolve=True)
        if not isinstance(block, Mapping):
            raise ValueError(f"{BLOCK}={block}: must be a block of keys and values.")
        known = cls.block_keys()
        for key in map(str, block):
            if key in _RENAMED:
                raise ValueError(f"{BLOCK}.{key}: there is no such key any more: {_RENAMED[key]}.")
            if key not in known:
                raise ValueError(
                    f"{BLOCK}.{key}: unknown key.{did_you_mean(key, known)} "
                    f"Allowed: {', '.join(known)}."
                )
        # Named without the block, because it is no key.
        import_external_modules()
        try:
            return cls(**block, norm_by_std=algorithm.get(NORM_BY_STD, True))
        except ValueError as error:
            raise ValueError(f"{BLOCK}.{error}") from error

    @classmethod
    def from_method(cls, name: str, **settings: Any) -> ShapeGRPOConfig:
        """Return the settings of a named method, as ``+method=NAME`` sets them in verl.

        Args:
            name: One of `shape_grpo.methods.METHODS` that credits candidates of a response;
                ``grpo`` is the allocator ``uniform``.
            **settings: Further settings, which win over the method's. The entries of options
                (``utility_options``, for instance) are added to the method's, if the utility or
                allocator is the method's.

        Raises:
            ValueError: There is no such method or setting, the method credits rollouts, or a value
                is not allowed.
        """
        if load_method(name).algorithm.adv_estimator not in ("grpo", "shape_grpo"):
            raise ValueError(
                f"method={name} credits the rollouts of a prompt: write RolloutsTrainer(..., "
                "shape_grpo=ShapeGRPOConfig(allocator='best_of_k', allocator_options={'k': 4}))."
            )
        known = [*cls.block_keys(), "norm_by_std"]
        for key in settings:
            if key not in known:
                raise ValueError(f"{key}: unknown setting.{did_you_mean(key, known)}")
        options = method_options(name)
        for kind in ("utility", "allocator"):
            if settings.get(kind, options.get(kind)) != options.get(kind):
                options.pop(f"{kind}_options", None)
        for key, value in settings.items():
            is_added = isinstance(value, Mapping) and isinstance(options.get(key), dict)
            options[key] = {**options[key], **value} if is_added else value
        return cls(**options)

    @classmethod
    def block_keys(cls) -> list[str]:
        """Return the keys of the block."""
        return [entry.name for entry in fields(cls) if entry.name != "norm_by_std"]

    @classmethod
    def block_defaults(cls) -> dict[str, Any]:
        """Return the keys of the block with their defaults."""
        # Without an instance, which would import what the environment names.
        return {
            entry.name: entry.default
            if entry.default_factory is MISSING
            else entry.default_factory()
            for entry in fields(cls)
            if entry.name in cls.block_keys()
        }

    @cached_property
    def method(self) -> Method:
        """Method that these settings name.

        Raises:
            ValueError: An option is unknown, missing or not allowed.
        """
        try:
            utility = make_utility(self.utility, **self.utility_options)
        except ValueError as error:
            raise ValueError(f"utility_options={self.utility_options}: {error}") from error
        try:
            allocator = make_allocator(self.allocator, **self.allocator_options)
        except ValueError as error:
            raise ValueError(f"allocator_options={self.allocator_options}: {error}") from error
        return Method(
            utility,
            allocator,
            self.advantage,
            self.length_correction,
            self.norm_by_std,
            self.epsilon,
        )

    @property
    def allowed_error_share(self) -> float:
        """``max_error_share``; 0 under ``on_error=raise``."""
        return 0.0 if self.on_error == "raise" else self.max_error_share

    @property
    def fixed_floor(self) -> float | None:
        """``floor_reward`` as a number; None under ``lowest``."""
        return None if self.floor_reward == LOWEST else float(self.floor_reward)

    def checked_reward(self, result: Any, text: str) -> float | list[float]:
        """Check the result of a reward function for the candidate ``text``; return it as floats.

        Raises:
            ValueError: The utility does not allow it, as none allows NaN or infinity, or its
                magnitude is above `LARGEST`.
            TypeError: It is no number, or no list of numbers where the utility takes vectors.
        """
        utility = self.method.utility
        try:
            values = list(result) if utility.takes_vectors else [result]
            check_kind(result, *values)
            numbers = [float(value) for value in values]
        except OverflowError:
            numbers = [math.inf]  # of a whole number of hundreds of digits
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"The reward function returned {result!r:.200} for {text[:200]!r}; utility "
                f"{self.utility} takes {utility.domain}."
            ) from error
        reward = numbers if utility.takes_vectors else numbers[0]
        if any(abs(number) > LARGEST for number in numbers):
            raise ValueError(
                f"The reward function returned {reward!r:.200} for {text[:200]!r}; a reward must "
                f"be from {-LARGEST:g} to {LARGEST:g}, so that sums and squares of rewards are "
                "finite."
            )
        if reward == [] or not utility.accepts(torch.tensor(reward)):
            raise ValueError(
                f"The reward function returned {reward} for {text[:200]!r}; utility "
                f"{self.utility} takes {utility.domain}."
            )
        return reward

    def score(self, record: CandidateRecord) -> float:
        """Return a response's score; its record's floor without a reward that was returned."""
        return self.scores([record])[0]

    def scores(self, records: Sequence[CandidateRecord]) -> list[float]:
        """Return the scores of responses, as `score` does, at the cost of one."""
        known = [self._known_score(record) for record in records]
        sets = [record.known_rewards for record, s in zip(records, known, strict=True) if s is None]
        utility = self.method.utility
        rewards = stack_rewards(sets, vectors=utility.takes_vectors)
        mask = ~(rewards[..., 0] if utility.takes_vectors else rewards).isnan()
        utilities = iter(set_utility(rewards, mask, utility=utility).tolist() if sets else ())
        return [next(utilities) if score is None else score for score in known]

    def _known_score(self, record: CandidateRecord) -> float | None:
        """Return the score of a response whose rewards do not give it; None for others."""
        if record.floor is not None:
            return record.floor
        # Under a utility that reads texts there is no score without the record's.
        if record.value is None and (self.method.utility.takes_texts or not record.known_rewards):
            return self.fixed_floor or 0.0
        return record.value

    def training_records(
        self, records: Sequence[CandidateRecord], index: GroupIndex
    ) -> Sequence[CandidateRecord]:
        """Return the records of a batch with the rewards that credit is computed from.

        Args:
            records: (N,) records.
            index: (N,) group ids.
        """
        if self.normalize_rewards == "none":
            return records
        scaled = scale_rewards(records, index, self.reward_weights)
        return lower_floors(scaled, index, self.scores)

    def check_rollouts(self, count: int, where: str) -> None:
        """Check that the settings fit sets of rollouts (`rollout_advantages`).

        Args:
            count: Number of rollouts of a prompt.
            where: Name of the setting of that number.

        Raises:
            ValueError: A setting has no meaning for such a set; the message says what to write.
        """
        allocator = self.method.allocator
        if count < 2:
            raise ValueError(
                f"{where}={count}: the rollouts of a prompt form one set, and a set of one has "
                "nothing to compare. Write 2 or more."
            )
        if isinstance(allocator, LimitedLooks) and allocator.places > count:
            raise ValueError(
                f"allocator_options={self.allocator_options}: looks at {allocator.places} of the "
                f"rollouts of a prompt, and there are {where}={count}. Write {count} or less, or "
                f"{where}={allocator.places}."
            )
        if allocator.is_uniform:
            raise ValueError(
                f"allocator={self.allocator}: pays all rollouts of a prompt alike, so that nothing "
                "is learnt. For GRPO write allocator=best_of_k with the option k=1."
            )
        for name, default in (("advantage", "reweight"), ("length_correction", False)):
            if getattr(self, name) != default:
                raise ValueError(
                    f"{name}={getattr(self, name)}: is for candidates within a response. The "
                    "advantage of a rollout is its share less the mean of its group: leave "
                    f"{name} out."
                )

    def _convert_types(self) -> None:
        """Convert values of YAML and command lines: ``1e-6`` and ``"3"`` become numbers.

        Raises:
            ValueError: A value is not of its field's type.
        """
        try:
            typed = OmegaConf.structured(self, flags={"allow_objects": True})
            values = OmegaConf.to_container(typed, throw_on_missing=True)
        except OmegaConfBaseException as error:
            reason = f"{error.full_key}: {str(error).splitlines()[0]}"
            if isinstance(error, MissingMandatoryValue):
                reason = f"{error.full_key}=???: missing; write its value in place of the ???."
            raise ValueError(reason) from None
        assert isinstance(values, dict)
        for name, value in values.items():
            object.__setattr__(self, str(name), value)
