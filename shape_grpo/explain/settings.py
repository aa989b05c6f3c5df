"""The settings of ``explain``: those of a training, from its files and flags."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from shape_grpo.config import BLOCK, ShapeGRPOConfig

EXTERNAL_MODULES = "VERL_USE_EXTERNAL_MODULES"
_READ = ("algorithm.", "reward.custom_reward_function.")
_DEFAULTS = {
    "algorithm": {"norm_adv_by_std_in_grpo": True, "shape_grpo": {}},
    "reward": {
        "custom_reward_function": {"path": None, "name": "compute_score", "reward_kwargs": {}},
        "reward_model": {"enable": False},
    },
}


def import_external_modules() -> None:
    """Import what registers allocators and readings of one's own, as verl does.

    Raises:
        ValueError: One of the modules cannot be imported.
    """
    for module in filter(None, os.environ.get(EXTERNAL_MODULES, "").split(",")):
        try:
            import_module(module)
        except Exception as error:
            raise ValueError(
                f"{EXTERNAL_MODULES}: {module} cannot be imported ({type(error).__name__}: {error})"
            ) from error


def read_settings(files: Sequence[Path], flags: Sequence[str]) -> DictConfig:
    """What of a training's configuration concerns a reward and its credit.

    Args:
        files: YAML with keys of verl's configuration; of several the last wins. A run's own is
            ``hydra/.hydra/config.yaml`` in its folder.
        flags: ``key=value``, as a training takes them; a key without its block is one of
            ``algorithm.shape_grpo``.

    Raises:
        ValueError: A file or a flag that cannot be read, or that nothing here reads.
    """
    dotlist = []
    for flag in flags:
        key, _, value = flag.lstrip("+").partition("=")
        if "." not in key or key.split(".")[0] in ("utility_options", "allocator_options"):
            key = f"{BLOCK}.{key}"
        if not key.startswith(_READ):
            raise ValueError(
                f"{flag}: explain reads the keys of {BLOCK} (as allocator=shapley) and "
                "reward.custom_reward_function alone"
            )
        dotlist.append(f"{key}={value}")
    try:
        loaded = [OmegaConf.load(file) for file in files]
        config = OmegaConf.merge(_DEFAULTS, *loaded, OmegaConf.from_dotlist(dotlist))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"the configuration cannot be read: {error}") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{', '.join(map(str, files))}: must hold keys and values")
    return config


def read_options(config: DictConfig) -> ShapeGRPOConfig:
    """The block ``algorithm.shape_grpo`` of it.

    Raises:
        ValueError: A key or a value that is not allowed.
    """
    try:
        return ShapeGRPOConfig.from_algorithm(config.algorithm)
    except OmegaConfBaseException as error:
        raise ValueError(f"{BLOCK}: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        own = ("allocator=", "advantage=", "utility=")
        if "unknown value" in str(error) and any(name in str(error) for name in own):
            raise ValueError(
                f"{error} What is your own is registered by a module in {EXTERNAL_MODULES}."
            ) from error
        raise
