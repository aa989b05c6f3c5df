"""Names of this package in verl's configuration, and checks of the whole configuration."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from shape_grpo.registry import closest
from shape_grpo.verl import cpu, versions
from shape_grpo.verl.files import check_files, check_resume, runs_elsewhere
from shape_grpo.verl.keys import check_keys
from shape_grpo.verl.trackers import check_trackers
from shape_grpo.verl.values import check_values

if TYPE_CHECKING:
    from shape_grpo.config import ShapeGRPOConfig

ESTIMATOR = "shape_grpo"
ROLLOUTS_ESTIMATOR = "shape_grpo_rollouts"
ESTIMATORS = (ESTIMATOR, ROLLOUTS_ESTIMATOR)
REWARD_MANAGER = "multi_candidate"
RECORD_KEY = "shape_grpo"
"""Key of a response's record in ``reward_extra_info``. The record is a JSON string, because verl
averages numbers and lists into its validation metrics."""
TURNS_KEY = "shape_grpo_turns"
"""Key in the ``extra_fields`` of an agent loop's output; the value is a list of ``(start, end)``,
the spans of tokens that the policy wrote."""
STEP_KEY = "shape_grpo_step"
"""Key beside it: the step that the response was asked for in; None in a validation."""
TRAINER_MODES = {
    "shape_grpo": "sync",
    "shape_grpo_colocate_async": "colocate_async",
    "shape_grpo_separate_async": "separate_async",
}
TOKEN_LOSS_MODES = (
    *("vanilla", "dppo_tv", "dppo_kl", "gspo", "sapo", "gpg"),
    *("clip_cov", "kl_cov", "dro", "cispo", "bypass_mode"),
)
"""Values of ``policy_loss.loss_mode`` for which each token's gradient uses that token's advantage.
``gspo`` is one of them: in verl it is the paper's GSPO-token, where only the ratio is per response.
Every ``loss_agg_mode`` weights whole responses, so it keeps the ratios of credit within one."""
_SHORTEST_CANDIDATE = {"xml": 7, "numbered": 4}
"""Length with Qwen3's tokenizer of a one-token candidate with its tags or number, in the formats in
which every candidate has the same."""


def concerns_this_package(config: DictConfig) -> bool:
    """Return whether a configuration of one of verl's trainers names any part of this package."""
    return (
        OmegaConf.select(config, "algorithm.adv_estimator") in ESTIMATORS
        or OmegaConf.select(config, "algorithm.shape_grpo") is not None
        or OmegaConf.select(config, "trainer.v1.trainer_mode") in TRAINER_MODES
        or OmegaConf.select(config, "reward.reward_manager.name") == REWARD_MANAGER
    )


def check_trainer_config(config: DictConfig) -> ShapeGRPOConfig:
    """Check a whole verl configuration before the run starts, without importing verl.

    Args:
        config: verl's ``ppo_trainer`` configuration, for any ``adv_estimator``.

    Returns:
        Its validated ``algorithm.shape_grpo`` block.

    Raises:
        ValueError: A setting is wrong; the message names it and says what to write instead.
    """
    # Imports torch; the names above must be available even if that, or the credit package, fails.
    from shape_grpo.config import ShapeGRPOConfig
    from shape_grpo.rewards import check_reward_function
    from shape_grpo.verl.rollout_checks import check_rollouts

    versions.warn_of_another_verl()
    check_keys(config)
    check_values(config)
    _check_names(config)
    block = ShapeGRPOConfig.from_algorithm(config.algorithm)
    if config.algorithm.adv_estimator == ESTIMATOR:
        _check_estimator(config)
        _check_loss_mode(config)
    if config.algorithm.adv_estimator == ROLLOUTS_ESTIMATOR:
        check_rollouts(config, block)
    if config.reward.reward_manager.name == REWARD_MANAGER:
        _check_reward_model(config)
    _check_batch_sizes(config)
    _check_group_filter(config)
    _warn_of_single_responses(config)
    check_reward_function(config)
    _warn_of_short_responses(config, block)
    return block


def check_before_ray(config: DictConfig) -> None:
    """Check all that can be checked before verl starts Ray, and make ``extensions`` absolute.

    Raises:
        ValueError: A setting or file is wrong; the message says what to write instead.
    """
    block = check_trainer_config(config)
    if block.extensions:
        # Ray's processes may have another working directory.
        config.algorithm.shape_grpo.extensions = block.extensions
    check_machine(config)
    check_files(config)


def check_machine(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check that this machine has the platform, the checkpoint and the trackers of a run.

    Raises:
        ValueError: The environment selects another platform, there is no checkpoint to resume from,
            or a tracker is not installed.
    """
    check_platform(config, environment)
    check_resume(config)
    here = not runs_elsewhere(config)
    check_trackers(config, installed_here=here, environment=environment)


def check_platform(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check that verl will select the CPU platform for a run on the CPU.

    Args:
        config: verl's ``ppo_trainer`` configuration.
        environment: Environment of the process that will run it.

    Raises:
        ValueError: The environment selects another platform.
    """
    if config.trainer.device == "cpu" and not cpu.is_enabled(environment):
        raise ValueError(
            f"trainer.device=cpu, but VERL_PLATFORM={environment.get('VERL_PLATFORM', '')}: write "
            "+backend=cpu in the command, and leave VERL_PLATFORM out of the environment."
        )


def _check_names(config: DictConfig) -> None:
    """Check for misspelt names of this package, which verl would look up minutes later."""
    for where, names in (
        ("algorithm.adv_estimator", list(ESTIMATORS)),
        ("trainer.v1.trainer_mode", list(TRAINER_MODES)),
        ("reward.reward_manager.name", [REWARD_MANAGER]),
    ):
        value = OmegaConf.select(config, where)
        close = closest(str(value), names, cutoff=0.85)
        # A trainer that extends one of ours may be called shape_grpo_mine.
        if close and value not in names and not str(value).startswith(f"{close}_"):
            raise ValueError(f"{where}={value}: unknown name. Did you mean {close}?")


def _check_estimator(config: DictConfig) -> None:
    """Check the settings of trainer and rewards that the estimator needs."""
    if not config.trainer.use_v1:
        raise ValueError(
            f"adv_estimator={ESTIMATOR} runs in verl's V1 trainer only: write trainer.use_v1=true."
        )
    mode = config.trainer.v1.trainer_mode
    for ours, verls in TRAINER_MODES.items():
        if mode == verls:
            problem = (
                f"trainer.v1.trainer_mode={mode}: verl's own trainer does not pass candidates to "
                f"the estimator {ESTIMATOR}: write trainer.v1.trainer_mode={ours}."
            )
            if not versions.is_newer():
                raise ValueError(problem)
            warnings.warn(
                f"{problem} If verl {versions.installed('verl')} does not either, the run ends in "
                "its first step.",
                stacklevel=3,
            )
    manager = config.reward.reward_manager.name
    if manager != REWARD_MANAGER:
        raise ValueError(
            f"adv_estimator={ESTIMATOR} needs one reward per candidate: write "
            f"reward.reward_manager.name={REWARD_MANAGER} (it is {manager})."
        )
    if config.algorithm.use_kl_in_reward:
        raise ValueError(
            "algorithm.use_kl_in_reward=true adds a penalty per token to the set's reward, which "
            "then cannot be split among the candidates: write "
            "actor_rollout_ref.actor.use_kl_loss=true instead."
        )


def _check_reward_model(config: DictConfig) -> None:
    """Check that no reward model bypasses the reward manager, not even for a baseline."""
    reward_model = config.reward.reward_model
    if reward_model.enable and config.reward.custom_reward_function.path is None:
        raise ValueError(
            "verl's reward model alone scores whole responses. Write a reward function that asks "
            "it about one candidate: reward.custom_reward_function.path=..."
        )
    if reward_model.enable and not reward_model.enable_resource_pool:
        raise ValueError(
            "A reward model on the trainer's own GPUs scores after the rollout, and verl passes no "
            "candidates there: write reward.reward_model.enable_resource_pool=true, or "
            "reward.reward_manager.name=naive for a baseline without candidates."
        )


def _check_loss_mode(config: DictConfig) -> None:
    mode = config.actor_rollout_ref.actor.policy_loss.get("loss_mode", "vanilla")
    if mode == "geo_mean":
        raise ValueError(
            "actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean averages the advantages over "
            f"each response, so {ESTIMATOR} would train like grpo: write one of "
            f"{', '.join(TOKEN_LOSS_MODES)}."
        )
    if mode not in TOKEN_LOSS_MODES:
        warnings.warn(
            f"policy_loss.loss_mode={mode} is unknown to this package. If it averages the "
            f"advantages over a response, as geo_mean does, {ESTIMATOR} trains like grpo.",
            stacklevel=3,
        )


def _check_batch_sizes(config: DictConfig) -> None:
    """Check the divisions that would otherwise fail in verl's workers after the first rollout.

    The distribution of responses over GPUs is checked for FSDP only.
    """
    actor, n = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout.n
    prompts, mini_batch = config.data.train_batch_size, actor.ppo_mini_batch_size
    if prompts % mini_batch:
        raise ValueError(
            f"data.train_batch_size={prompts} is not a multiple of "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch}."
        )
    if actor.strategy not in ("fsdp", "fsdp2"):
        return
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    # GPUs that split a sequence share the same responses.
    ranks = max(gpus // actor.get("ulysses_sequence_parallel_size", 1), 1)
    if mini_batch * n % ranks:
        raise ValueError(
            f"ppo_mini_batch_size={mini_batch} times rollout.n={n} responses do not divide evenly "
            f"among {ranks} GPUs."
        )
    longest = config.data.max_prompt_length + config.data.max_response_length
    tokens = actor.ppo_max_token_len_per_gpu * actor.get("ulysses_sequence_parallel_size", 1)
    if actor.use_dynamic_bsz and longest > tokens:
        raise ValueError(
            f"data.max_prompt_length and data.max_response_length allow {longest} tokens, but a "
            f"micro-batch holds {tokens}: write actor_rollout_ref.actor.ppo_max_token_len_per_gpu="
            f"{longest} or more."
        )
    micro_batch = actor.ppo_micro_batch_size_per_gpu
    if actor.use_dynamic_bsz or micro_batch is None:
        return
    if mini_batch * n // ranks % micro_batch:
        raise ValueError(
            f"{mini_batch * n // ranks} responses per GPU and update are not a multiple of "
            f"ppo_micro_batch_size_per_gpu={micro_batch}."
        )


def _check_group_filter(config: DictConfig) -> None:
    """Check the metric of ``filter_groups``, which verl looks up only after the first rollout."""
    group_filter = config.algorithm.get("filter_groups") or {}
    if not group_filter.get("enable") or config.reward.reward_manager.name != REWARD_MANAGER:
        return
    metric = group_filter.get("metric")
    if metric in (None, "", RECORD_KEY):
        raise ValueError(
            f"algorithm.filter_groups.metric={metric}: responses have no number of that name; "
            "for the set's score write algorithm.filter_groups.metric=score."
        )


def _warn_of_single_responses(config: DictConfig) -> None:
    n, estimator = config.actor_rollout_ref.rollout.n, config.algorithm.adv_estimator
    if n == 1 and estimator in (ESTIMATOR, "grpo"):
        warnings.warn(
            f"actor_rollout_ref.rollout.n={n}: {estimator} compares the responses to one prompt, "
            "and with one there is nothing to compare: its advantage is its raw reward. Write "
            "actor_rollout_ref.rollout.n=8, or any number from 2 on.",
            stacklevel=3,
        )


def _warn_of_short_responses(config: DictConfig, block: ShapeGRPOConfig) -> None:
    if config.reward.reward_manager.name != REWARD_MANAGER:
        return
    limit = config.data.max_response_length
    # A candidate of another format may be a line of one token.
    shortest = (block.max_candidates or 1) * _SHORTEST_CANDIDATE.get(block.format, 1)
    if limit < shortest:
        warnings.warn(
            f"data.max_response_length={limit}: {block.max_candidates or 1} one-token candidates "
            f"in the format {block.format} take about {shortest} tokens with Qwen3's tokenizer. "
            "Most responses will be cut off: write a larger value.",
            stacklevel=3,
        )
