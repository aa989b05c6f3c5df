"""The names by which verl's configuration finds this package, and what must hold around them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.utils.import_utils import load_module

from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.registry import did_you_mean

ESTIMATOR = "shape_grpo"
REWARD_MANAGER = "multi_candidate"
RECORD_KEY = "shape_grpo"
"""The key of a response's record in ``reward_extra_info``. It is JSON there: verl averages numbers
and lists into its validation metrics, and leaves strings alone."""
LAST_TURN_KEY = "shape_grpo_last_turn"
"""The key of ``(start, end)`` in the ``extra_fields`` of what an agent loop gave: its tokens that
the policy wrote last."""
AGENT_LOOP_MANAGER = "shape_grpo.verl.agent_loop.CandidateAgentLoopManager"
TRAINER_MODES = {
    "shape_grpo": "sync",
    "shape_grpo_colocate_async": "colocate_async",
    "shape_grpo_separate_async": "separate_async",
}


def check_trainer_config(config: DictConfig) -> ShapeGRPOConfig:
    """Check a whole verl configuration before anything starts.

    Args:
        config: verl's ``ppo_trainer`` configuration, for any ``adv_estimator``.

    Returns:
        Its validated ``algorithm.shape_grpo`` block.

    Raises:
        ValueError: What is wrong, where, and what to write instead.
    """
    block = ShapeGRPOConfig.from_algorithm(config.algorithm)
    if config.algorithm.adv_estimator == ESTIMATOR:
        _check_estimator(config)
    if config.reward.reward_manager.name == REWARD_MANAGER:
        _check_reward_model(config)
    _check_batch_sizes(config)
    check_reward_function(config)
    return block


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
                f"verl's own trainer {mode} does not pass candidates to the estimator: write "
                f"trainer.v1.trainer_mode={ours}."
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
    micro_batch = actor.ppo_micro_batch_size_per_gpu
    if actor.use_dynamic_bsz or micro_batch is None:
        return
    if mini_batch * n // ranks % micro_batch:
        raise ValueError(
            f"{mini_batch * n // ranks} responses a GPU and update are no multiple of "
            f"ppo_micro_batch_size_per_gpu={micro_batch}."
        )


def check_reward_function(config: DictConfig) -> None:
    """Load the reward function and check its keywords, which a run would do a candidate at a time.

    A module that has ``check_reward_kwargs(reward_kwargs, has_reward_model)`` checks them itself.

    Raises:
        ValueError: There is no such function, or a keyword that it does not know.
    """
    function = config.reward.custom_reward_function
    if not function.path:
        return
    where = "reward.custom_reward_function"
    try:
        module = load_module(function.path)
    except FileNotFoundError:
        raise ValueError(f"{where}.path={function.path}: there is no such file.") from None
    except (ImportError, RuntimeError) as error:
        why = error.__cause__ or error
        raise ValueError(
            f"{where}.path={function.path}: it cannot be imported ({type(why).__name__}: {why})."
        ) from error
    name = function.get("name") or "compute_score"
    score = getattr(module, name, None)
    if score is None:
        raise ValueError(f"{where}.path={function.path}: it has no function {name}.")
    plain = OmegaConf.to_container(function, resolve=True)
    assert isinstance(plain, dict)
    given = {str(name): value for name, value in (plain.get("reward_kwargs") or {}).items()}
    if hasattr(module, "check_reward_kwargs"):
        module.check_reward_kwargs(given, config.reward.reward_model.enable)
    else:
        _check_keywords(given, score, f"{where}.reward_kwargs")


def _check_keywords(given: Mapping[str, Any], score: Any, where: str) -> None:
    """A reward function takes what verl passes beside: a misspelt keyword would be lost in that."""
    parameters = inspect.signature(score).parameters.values()
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    takes_any = len(known) < len(parameters)
    for name in (name for name in given if name not in known):
        hint = did_you_mean(name, known)
        if hint or not takes_any:
            raise ValueError(f"{where}.{name}: the reward function does not name it.{hint}")
