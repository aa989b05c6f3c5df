"""Settings of ``explain``: a training's, from its files and flags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from shape_grpo.config import BLOCK, ShapeGRPOConfig
from shape_grpo.methods import load_method, method_options
from shape_grpo.rewards import load_reward_function

_READ = ("algorithm.", "reward.custom_reward_function.", "data.apply_chat_template_kwargs.")
OPTION_BLOCKS = ("utility_options", "allocator_options", "format_options", "reward_weights")
_DEFAULTS = {
    "algorithm": {"norm_adv_by_std_in_grpo": True, "shape_grpo": {}},
    "reward": {
        "custom_reward_function": {"path": None, "name": "compute_score", "reward_kwargs": {}},
        "reward_model": {"enable": False},
    },
}


def read_settings(files: Sequence[Path], flags: Sequence[str]) -> DictConfig:
    """Read the part of a training's configuration that concerns rewards and credit.

    Args:
        files: YAML files with keys of verl's configuration; the last one wins. A run's own is
            ``hydra/.hydra/config.yaml`` in its folder.
        flags: ``key=value``, as for a training; ``method=NAME`` too. A key without a block is one
            of ``algorithm.shape_grpo``. They win over the method, and that over the files.

    Raises:
        ValueError: A file or a flag cannot be read, a flag's key is not used here, or there is no
            such method.
    """
    dotlist = []
    methods = []
    for flag in flags:
        key, _, value = flag.lstrip("+").partition("=")
        if key == "method":
            if load_method(value).algorithm.adv_estimator == "shape_grpo_rollouts":
                raise ValueError(
                    f"{flag}: credits the rollouts of a prompt, and the columns of A are those of "
                    "candidates within a response; for the shares alone write allocator=best_of_k "
                    "allocator_options.k=4"
                )
            methods.append({"algorithm": {"shape_grpo": method_options(value)}})
            continue
        if "." not in key or key.split(".")[0] in OPTION_BLOCKS:
            key = f"{BLOCK}.{key}"
        if not key.startswith(_READ):
            raise ValueError(
                f"{flag}: explain reads the keys of {BLOCK} (as allocator=shapley) and "
                "reward.custom_reward_function alone"
            )
        dotlist.append(f"{key}={value}")
    try:
        loaded = [OmegaConf.load(file) for file in files]
        config = OmegaConf.merge(_DEFAULTS, *loaded, *methods, OmegaConf.from_dotlist(dotlist))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"the configuration cannot be read: {error}") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{', '.join(map(str, files))}: must hold keys and values")
    return config


def read_options(config: DictConfig) -> ShapeGRPOConfig:
    """Read the block ``algorithm.shape_grpo``.

    Raises:
        ValueError: A key or a value is not allowed.
    """
    try:
        return ShapeGRPOConfig.from_algorithm(config.algorithm)
    except OmegaConfBaseException as error:
        raise ValueError(f"{BLOCK}: {str(error).splitlines()[0]}") from error


def load_function(config: DictConfig) -> Callable[..., Any]:
    """Load the reward function that a run would call: the configured one, or verl's own scores.

    verl is imported only where the configuration names no function.

    Raises:
        ValueError: As `shape_grpo.rewards.load_reward_function`.
    """
    function = load_reward_function(config)
    if function is None:
        from verl.utils.reward_score import default_compute_score

        function = default_compute_score
    return function
