"""Checks of single values of verl's configuration, which verl would read late or otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from shape_grpo.registry import check_choice, closest
from shape_grpo.verl.keys import leaves, references

_ROLLOUT, _ACTOR = "actor_rollout_ref.rollout", "actor_rollout_ref.actor"
_SECTIONS = (
    *("data", "algorithm", "trainer", "trainer.v1", "reward", "reward.reward_manager"),
    *(
        "reward.custom_reward_function",
        "reward.reward_model",
        "data.custom_cls",
        "actor_rollout_ref",
    ),
    *("actor_rollout_ref.model", _ACTOR, f"{_ACTOR}.policy_loss", _ROLLOUT),
    *(f"{_ROLLOUT}.val_kwargs", f"{_ROLLOUT}.agent"),
)
_NEEDED = (
    "actor_rollout_ref.model.path",
    "trainer.default_local_dir",
    "data.prompt_key",
    "data.train_max_samples",
    "data.val_max_samples",
)
_COUNTS = (
    *("data.train_batch_size", "data.max_prompt_length", "data.max_response_length"),
    *(f"{_ACTOR}.ppo_mini_batch_size", f"{_ACTOR}.ppo_epochs"),
    *(f"{_ROLLOUT}.n", f"{_ROLLOUT}.val_kwargs.n", f"{_ROLLOUT}.agent.num_workers"),
    *("reward.num_workers", "trainer.n_gpus_per_node", "trainer.nnodes"),
)
_COUNTS_OR_NULL = ("data.gen_batch_size", f"{_ACTOR}.ppo_micro_batch_size_per_gpu")
_STEPS = ("trainer.total_epochs", "trainer.total_training_steps")
_CHOICES = {
    "data.truncation": ("error", "left", "right", "middle"),
    "trainer.resume_mode": ("auto", "disable", "resume_path"),
}
AGENT_LOOPS = ("single_turn_agent", "tool_agent")
NAMES = {
    "algorithm.adv_estimator": (
        *("gae", "grpo", "grpo_passk", "grpo_vectorized", "gdpo", "gpg", "opo", "remax"),
        *("rloo", "rloo_vectorized", "reinforce_plus_plus", "reinforce_plus_plus_baseline"),
        *("optimal_token_baseline", "tir_optimal_token_baseline"),
    ),
    "reward.reward_manager.name": ("naive", "dapo", "gdpo", "remote"),
    f"{_ROLLOUT}.name": ("vllm", "sglang", "trtllm"),
    f"{_ACTOR}.strategy": (
        *("fsdp", "fsdp2", "fsdp_turbo", "megatron", "veomni", "torchtitan", "automodel"),
    ),
    "trainer.device": ("cuda", "npu", "cpu"),
    f"{_ROLLOUT}.agent.default_agent_loop": AGENT_LOOPS,
}
"""verl's own names. Extensions may register others, so only a misspelt one is refused."""
_ALIASES = {"gpu": "cuda"}
_TRUE = ("true", "yes", "on", "y")
_KINDS: dict[str, type] = {
    "critic.enable": bool,
    "data.seed": float,
    "trainer.total_training_steps": float,
}
"""Keys that are null in verl's files to the kind of their value."""
_DEFAULT = re.compile(r",\s*(true|false|-?\d+(?:\.\d+)?)\}$", re.IGNORECASE)


def check_values(config: DictConfig) -> None:
    """Check sections, kinds and counts, and names that are verl's own.

    Raises:
        ValueError: A value is null, of another kind, too small or a misspelt name; the message
            names its key and says what to write instead.
    """
    for where in _SECTIONS:
        section = OmegaConf.select(config, where, default={})
        if not isinstance(section, Mapping | DictConfig):
            told = "null" if section is None else section
            raise ValueError(f"{where}={told}: verl needs this block. Leave it as it is.")
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    values = dict(leaves(plain))
    for where in _NEEDED:
        if values.get(where, "") is None:
            raise ValueError(f"{where}=null: verl needs it. Write its value, or leave it out.")
    _check_kinds(values)
    _check_counts(values)
    for where, allowed in _CHOICES.items():
        if where in values:
            check_choice(where, str(values[where]), allowed)
    for where, names in NAMES.items():
        value = str(values.get(where, names[0]))
        close = _ALIASES.get(value) or closest(value, names, cutoff=0.75)
        if close and value not in names and not value.startswith(close):
            raise ValueError(f"{where}={value}: unknown name. Did you mean {close}?")


def _check_kinds(values: Mapping[str, Any]) -> None:
    kinds = _kinds()
    # The shortest key is the one that the others copy.
    for where, value in sorted(values.items(), key=lambda item: len(item[0])):
        # A missing value, and an interpolation that is not resolved yet.
        if not isinstance(value, str) or value == "???" or "${" in value:
            continue
        kind = kinds.get(where)
        if kind is bool and value.lower() not in _TRUE:
            raise ValueError(
                f"{where}={value}: this is text, which verl takes for true. Write {where}=false."
                if value.lower() in ("no", "off", "n", "false")
                else f"{where}={value}: must be true or false."
            )
        if kind is float and not _is_number(value):
            raise ValueError(f"{where}={value}: must be a number.")


def _check_counts(values: Mapping[str, Any]) -> None:
    # To validate only, no step is needed.
    steps = () if values.get("trainer.val_only") else _STEPS
    for where in (*_COUNTS, *_COUNTS_OR_NULL, *steps):
        value = values.get(where, 1)
        if value is None and where not in _COUNTS:
            continue
        if isinstance(value, str) and "${" in value:
            continue
        if isinstance(value, bool) or not _is_number(value) or float(value) < 1:
            told = "null" if value is None else value
            raise ValueError(f"{where}={told}: write a whole number of 1 or more.")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


@lru_cache
def _kinds() -> dict[str, type]:
    """Return keys whose value is true or false (bool) or a number (float) in verl's files."""
    return {where: kind for file in references() for where, kind in _of_file(file)} | _KINDS


def _of_file(reference: Mapping[Any, Any]) -> Iterator[tuple[str, type]]:
    for where, value in leaves(reference):
        if isinstance(value, str) and (default := _DEFAULT.search(value)):
            value = yaml.safe_load(default[1].lower())
        if isinstance(value, int | float):
            yield where, bool if isinstance(value, bool) else float
