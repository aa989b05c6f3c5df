"""The names by which verl's configuration finds this package, and what must hold around them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from shape_grpo.registry import closest
from shape_grpo.verl import cpu
from shape_grpo.verl.files import check_files
from shape_grpo.verl.keys import check_keys
from shape_grpo.verl.versions import warn_of_another_verl

if TYPE_CHECKING:
    from shape_grpo.config import ShapeGRPOConfig

ESTIMATOR = "shape_grpo"
REWARD_MANAGER = "multi_candidate"
RECORD_KEY = "shape_grpo"
"""The key of a response's record in ``reward_extra_info``. It is JSON there: verl averages numbers
and lists into its validation metrics, and leaves strings alone."""
LAST_TURN_KEY = "shape_grpo_last_turn"
"""The key of ``(start, end)`` in the ``extra_fields`` of what an agent loop gave: its tokens that
the policy wrote last."""
TRAINER_MODES = {
    "shape_grpo": "sync",
    "shape_grpo_colocate_async": "colocate_async",
    "shape_grpo_separate_async": "separate_async",
}
TOKEN_LOSS_MODES = (
    *("vanilla", "dppo_tv", "dppo_kl", "gspo", "sapo", "gpg"),
    *("clip_cov", "kl_cov", "dro", "cispo", "bypass_mode"),
)
"""Values of ``policy_loss.loss_mode`` under which a token's gradient goes with its own advantage.
``gspo`` is one of them: in verl it is the paper's GSPO-token, whose ratio alone is a response's.
Every ``loss_agg_mode`` weights whole responses, and keeps a token's credit beside the others'."""
_SHORTEST_CANDIDATE = {"xml": 7, "numbered": 4}
"""Tokens of a candidate of one token with its tags or number, as Qwen3's tokenizer splits them."""


def concerns_this_package(config: DictConfig) -> bool:
    """Whether a configuration, of any of verl's trainers, names anything of this package."""
    return (
        OmegaConf.select(config, "algorithm.adv_estimator") == ESTIMATOR
        or OmegaConf.select(config, "algorithm.shape_grpo") is not None
        or OmegaConf.select(config, "trainer.v1.trainer_mode") in TRAINER_MODES
        or OmegaConf.select(config, "reward.reward_manager.name") == REWARD_MANAGER
    )


def check_trainer_config(config: DictConfig) -> ShapeGRPOConfig:
    """Check a whole verl configuration before anything starts; verl is not imported for it.

    Args:
        config: verl's ``ppo_trainer`` configuration, for any ``adv_estimator``.

    Returns:
        Its validated ``algorithm.shape_grpo`` block.

    Raises:
        ValueError: What is wrong, where, and what to write instead.
    """
    # Imports torch. The names above are also wanted where it, or the room of the credit, fails.
    from shape_grpo.config import ShapeGRPOConfig
    from shape_grpo.rewards import check_reward_function

    warn_of_another_verl()
    check_keys(config)
    _check_names(config)
    block = ShapeGRPOConfig.from_algorithm(config.algorithm)
    if config.algorithm.adv_estimator == ESTIMATOR:
        _check_estimator(config)
        _check_loss_mode(config)
    if config.reward.reward_manager.name == REWARD_MANAGER:
        _check_reward_model(config)
    _check_batch_sizes(config)
    _check_group_filter(config)
    check_reward_function(config)
    _warn_of_short_responses(config, block)
    return block


def check_before_ray(config: DictConfig) -> None:
    """All that can be checked where verl is started, before it starts Ray.

    Raises:
        ValueError: What is wrong, where, and what to write instead.
    """
    check_trainer_config(config)
    check_platform(config)
    check_files(config)


def check_platform(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check that a run on the CPU will find verl's platform for it.

    Args:
        config: verl's ``ppo_trainer`` configuration.
        environment: Of the process that will run it.

    Raises:
        ValueError: The platform is not asked for.
    """
    if config.trainer.device == "cpu" and not cpu.is_enabled(environment):
        raise ValueError(
            f"trainer.device=cpu, but VERL_PLATFORM={environment.get('VERL_PLATFORM', '')}: write "
            "+backend=cpu in the command, and leave VERL_PLATFORM out of the environment."
        )


def _check_names(config: DictConfig) -> None:
    """Names that are nearly this package's, which verl looks up minutes later."""
    for where, names in (
        ("algorithm.adv_estimator", [ESTIMATOR]),
        ("trainer.v1.trainer_mode", list(TRAINER_MODES)),
        ("reward.reward_manager.name", [REWARD_MANAGER]),
    ):
        value = OmegaConf.select(config, where)
        close = closest(str(value), names, cutoff=0.85)
        # Whoever extends a trainer of ours may call it shape_grpo_mine.
        if close and value not in names and not str(value).startswith(f"{close}_"):
            raise ValueError(f"{where}={value}: unknown name. Did you mean {close}?")


def _check_estimator(config: DictConfig) -> None:
    """What the estimator needs of the trainer and of the rewards."""
    if not config.trainer.use_v1:
        raise ValueError(
            f"adv_estimator={ESTIMATOR} runs in verl's V1 trainer only: write trainer.use_v1=true."
        )
    mode = config.trainer.v1.trainer_mode
    for ours, verls in TRAINER_MODES.items():
        if mode == verls:
            raise ValueError(
                f"trainer.v1.trainer_mode={mode}: verl's own trainer does not pass candidates to "
                f"the estimator {ESTIMATOR}: write trainer.v1.trainer_mode={ours}."
            )
    manager = config.reward.reward_manager.name
    if manager != REWARD_MANAGER:
        raise ValueError(
            f"adv_estimator={ESTIMATOR} needs one reward a candidate: write "
            f"reward.reward_manager.name={REWARD_MANAGER} (it is {manager})."
        )
    if config.algorithm.use_kl_in_reward:
        raise ValueError(
            "algorithm.use_kl_in_reward=true mixes a penalty a token into the set's reward, which "
            "is then no longer the candidates' to split: write "
            "actor_rollout_ref.actor.use_kl_loss=true instead."
        )


def _check_reward_model(config: DictConfig) -> None:
    """A model that scores past the reward manager leaves no candidates, for a baseline too."""
    reward_model = config.reward.reward_model
    if reward_model.enable and config.reward.custom_reward_function.path is None:
        raise ValueError(
            "verl's reward model alone scores a whole response. Write a reward function that asks "
            "it about one candidate: reward.custom_reward_function.path=..."
        )
    if reward_model.enable and not reward_model.enable_resource_pool:
        raise ValueError(
            "A reward model on the trainer's own GPUs scores after the rollout, where verl passes "
            "no candidates on: write reward.reward_model.enable_resource_pool=true, or "
            "reward.reward_manager.name=naive for a baseline without candidates."
        )


def _check_loss_mode(config: DictConfig) -> None:
    mode = config.actor_rollout_ref.actor.policy_loss.get("loss_mode", "vanilla")
    if mode == "geo_mean":
        raise ValueError(
            "actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean averages the advantages over "
            f"each response, and {ESTIMATOR} would train as grpo: write one of "
            f"{', '.join(TOKEN_LOSS_MODES)}."
        )
    if mode not in TOKEN_LOSS_MODES:
        warnings.warn(
            f"policy_loss.loss_mode={mode} is not known here. If it averages the advantages over a "
            f"response, as geo_mean does, {ESTIMATOR} trains as grpo.",
            stacklevel=3,
        )


def _check_batch_sizes(config: DictConfig) -> None:
    """What verl would only find out in its workers, after the first rollout.

    How responses are spread over GPUs is known here for FSDP alone.
    """
    actor, n = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout.n
    prompts, mini_batch = config.data.train_batch_size, actor.ppo_mini_batch_size
    if prompts % mini_batch:
        raise ValueError(
            f"data.train_batch_size={prompts} is no multiple of "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch}."
        )
    if actor.strategy not in ("fsdp", "fsdp2"):
        return
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    # GPUs that split a sequence between them work on the same responses.
    ranks = max(gpus // actor.get("ulysses_sequence_parallel_size", 1), 1)
    if mini_batch * n % ranks:
        raise ValueError(
            f"ppo_mini_batch_size={mini_batch} times rollout.n={n} responses do not divide "
            f"among {ranks} GPUs."
        )
    longest = config.data.max_prompt_length + config.data.max_response_length
    tokens = actor.ppo_max_token_len_per_gpu * actor.get("ulysses_sequence_parallel_size", 1)
    if actor.use_dynamic_bsz and longest > tokens:
        raise ValueError(
            f"data.max_prompt_length and data.max_response_length allow {longest} tokens, and a "
            f"micro-batch holds {tokens}: write actor_rollout_ref.actor.ppo_max_token_len_per_gpu="
            f"{longest} or more."
        )
    micro_batch = actor.ppo_micro_batch_size_per_gpu
    if actor.use_dynamic_bsz or micro_batch is None:
        return
    if mini_batch * n // ranks % micro_batch:
        raise ValueError(
            f"{mini_batch * n // ranks} responses a GPU and update are no multiple of "
            f"ppo_micro_batch_size_per_gpu={micro_batch}."
        )


def _check_group_filter(config: DictConfig) -> None:
    """What ``filter_groups`` compares is looked up after the first rollout only."""
    group_filter = config.algorithm.get("filter_groups") or {}
    if not group_filter.get("enable") or config.reward.reward_manager.name != REWARD_MANAGER:
        return
    metric = group_filter.get("metric")
    if metric in (None, "", RECORD_KEY):
        raise ValueError(
            f"algorithm.filter_groups.metric={metric}: no number of that name comes with a "
            "response; for the set's score write algorithm.filter_groups.metric=reward."
        )


def _warn_of_short_responses(config: DictConfig, block: ShapeGRPOConfig) -> None:
    room = config.data.max_response_length
    wanted = (block.max_candidates or 1) * _SHORTEST_CANDIDATE[block.format]
    if room < wanted:
        warnings.warn(
            f"data.max_response_length={room}: {block.max_candidates or 1} candidates in the "
            f"format {block.format} take about {wanted} tokens without a word in them (with "
            "Qwen3's tokenizer). Most will be cut off: write a larger one.",
            stacklevel=3,
        )
