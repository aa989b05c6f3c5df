"""A run's configuration: composed and checked, without a GPU and without starting anything.

    python -m recipe.shape_grpo.runs.check +task=netflix +method=shape_grpo ...

is the dry run: it takes the overrides of `main_shape_grpo`, and refuses what a run refuses before
Ray starts (docs/mistakes.md). Each override must be a key of verl's configuration or of this
project's; the result must pass this project's checks (`shape_grpo.verl.checks`) and verl's own, and
the prompts must ask for as many candidates as the configuration says.

The dry run alone also calls the reward function, once, with the first row of the data and a made-up
candidate.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core import config_store
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.methods import CONFIG
from shape_grpo.registry import closest
from shape_grpo.verl import cpu
from shape_grpo.verl.checks import check_platform, check_trainer_config
from shape_grpo.verl.files import check_files, missing_files
from shape_grpo.verl.hydra_configs import store_configs
from shape_grpo.verl.keys import config_folder

HOW_TO_MAKE = "The task's file in config/task says how to make its data."


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration of `main_shape_grpo` under these overrides, its interpolations resolved.

    Raises:
        ValueError: An override is no key, or an interpolation leads nowhere.
    """
    store_configs(config_store)
    # As a folder: verl takes seconds to import, which Hydra does with a package.
    searchpath = f"hydra.searchpath=['file://{config_folder()}']"
    try:
        with initialize_config_dir(str(CONFIG), version_base=None):
            try:
                config = compose("shape_grpo_trainer", overrides=[searchpath, *overrides])
            except HydraException as error:
                groups = [override for override in overrides if re.match(r"\+\w+=", override)]
                whole = compose("shape_grpo_trainer", overrides=[searchpath, *groups])
                raise ValueError(_what_is_wrong(error, whole)) from None
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(_what_is_wrong(error)) from None
    return config


def _what_is_wrong(error: Exception, whole: DictConfig | None = None) -> str:
    """Hydra's message in a line; what to write instead of a key that there is none of.

    Hydra's own advice, to put a + before it, would make a key that nobody reads.
    """
    misspelt = re.match(r"Could not override '(.+)'", str(error))
    if misspelt and whole is not None:
        where, _, name = misspelt[1].rpartition(".")
        block = OmegaConf.select(whole, where) if where else whole
        if isinstance(block, DictConfig):
            close = closest(name, map(str, block))
            hint = f" Did you mean {where}.{close}?" if close else ""
            return f"{misspelt[1]}: there is no such key.{hint or f' There are: {_names(block)}.'}"
    reasons = [str(error), str(error.__cause__ or "")]
    return " ".join(line for reason in reasons for line in reason.splitlines()[:2])


def _names(block: DictConfig) -> str:
    return ", ".join(sorted(map(str, block)))


def choose_platform(config: DictConfig) -> None:
    """Set what a run on the CPU needs, in the environment of this process, before it imports verl.

    The plugin does that where the command says ``+backend=cpu``, whatever starts it.
    """
    if config.trainer.device == "cpu":
        cpu.set_environment()


def check_config(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Everything about a configuration that can be checked without its data and its policy.

    Args:
        config: As composed.
        environment: Of the process that will run it.

    Raises:
        ValueError: What is wrong, and what to write instead.
    """
    _check_without_verl(config, environment)
    _check_by_verl(config)


def check_run(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """`check_config`, and that the data and the policy are there.

    Raises:
        ValueError: What is wrong, and what to write instead.
    """
    _check_without_verl(config, environment)
    try:
        check_files(config)
    except ValueError as error:
        raise ValueError(f"{error} {HOW_TO_MAKE}") from None
    _check_by_verl(config)


def _check_without_verl(config: DictConfig, environment: Mapping[str, str]) -> None:
    check_trainer_config(config)
    check_platform(config, environment)
    if "dataset" in config:
        _check_candidates(config.dataset)


def _check_by_verl(config: DictConfig) -> None:
    # verl takes seconds to import: only for what nothing here refuses.
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    # Without what `shape_grpo.plugin` puts before it, which asks for the data too.
    validate = getattr(validate_config, "__wrapped__", validate_config)
    try:
        # What it remarks, the run itself says again, in its log.
        with redirect_stdout(None), warnings.catch_warnings(action="ignore"):
            validate(config, need_reference_policy(config), need_critic(config))
    except AssertionError as error:
        raise ValueError(str(error)) from None


def _check_candidates(dataset: DictConfig) -> None:
    stamp = read_stamp(Path(dataset.folder))
    if stamp is None:
        return
    prepared = stamp.get("candidates")
    if prepared != dataset.candidates:
        raise ValueError(
            f"dataset.candidates={dataset.candidates}, but the prompts in {dataset.folder} ask "
            f"for {prepared}: prepare the data with --candidates {dataset.candidates}."
        )


def main(overrides: list[str]) -> None:
    """The dry run: print the command, check its configuration, and try the reward function.

    Exits with 1 where the run would not start, or its rewards would fail.
    """
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return
    command = ["python", "-m", "recipe.shape_grpo.main_shape_grpo", *overrides]
    print(" \\\n    ".join([shlex.join(command[:3]), *(shlex.quote(o) for o in overrides)]))
    try:
        config = compose_config(overrides)
        choose_platform(config)
        check_config(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")
    print("The configuration is valid.")
    problems = list(missing_files(config))
    for problem in problems:
        print(f"Not there yet: {problem}")
    if problems:
        sys.exit(HOW_TO_MAKE)
    from recipe.shape_grpo.runs.try_reward import RewardFailed, try_reward

    try:
        print(try_reward(config))
    except RewardFailed as error:
        sys.exit(f"Reward error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
