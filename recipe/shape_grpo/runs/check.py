"""Composes and checks a run's configuration, without a GPU and without starting anything.

    python -m recipe.shape_grpo.runs.check +task=netflix +method=shape_grpo ...

is the dry run: it takes the overrides of `main_shape_grpo`, and makes the checks that a run makes
before Ray starts (docs/mistakes.md). Each override must be a key of the configuration of verl or of
this project. The result must pass the checks of `shape_grpo.verl.checks` and of verl, and the
prompts must ask for the configured number of candidates.

Only the dry run measures the prompts, and reads a made-up answer to the first one, by the
tokenizer. It also calls the reward function, once, with the first row and a made-up candidate.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core import config_store
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.methods import CONFIG
from recipe.shape_grpo.common.overrides import quoted
from recipe.shape_grpo.runs.hydra_errors import check_groups, what_is_wrong
from shape_grpo.verl import cpu
from shape_grpo.verl.checks import check_machine, check_trainer_config
from shape_grpo.verl.files import check_files, missing_files
from shape_grpo.verl.hydra_configs import store_configs
from shape_grpo.verl.keys import config_folder

HOW_TO_MAKE = "The task's file in config/task says how to make its data."


def compose_config(overrides: list[str]) -> DictConfig:
    """Return the configuration of `main_shape_grpo` with these overrides, fully resolved.

    Raises:
        ValueError: An override names no key, or an interpolation cannot be resolved.
    """
    store_configs(config_store)
    # A folder, because Hydra would import a package, and verl takes seconds to import.
    searchpath = f"hydra.searchpath=[{quoted(f'file://{config_folder()}')}]"
    try:
        with initialize_config_dir(str(CONFIG), version_base=None):
            try:
                config = compose("shape_grpo_trainer", overrides=[searchpath, *overrides])
            except HydraException as error:
                groups = [text for text in overrides if re.match(r"\+\w+=", text)]
                whole = compose("shape_grpo_trainer", overrides=[searchpath, *groups])
                raise ValueError(what_is_wrong(error, overrides, whole)) from None
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(what_is_wrong(error, overrides)) from None
    check_groups(overrides, config)
    return config


def choose_platform(config: DictConfig) -> None:
    """Set the environment variables of a run on the CPU, before this process imports verl.

    For a command with ``+backend=cpu``, the plugin sets them.
    """
    if OmegaConf.select(config, "trainer.device") == "cpu":
        cpu.set_environment()


def check_config(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check a configuration, without its data and its policy.

    Args:
        config: The composed configuration.
        environment: Environment variables of the process that will run it.

    Raises:
        ValueError: A setting is wrong; the message says what to write instead.
    """
    _check_without_verl(config, environment)
    _check_by_verl(config)


def check_run(config: DictConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check a configuration, and that its data and its policy exist and can be used.

    Raises:
        ValueError: As in `check_config`, or a file is missing or wrong.
    """
    _check_without_verl(config, environment)
    for problem in missing_files(config):
        raise ValueError(f"{problem} {HOW_TO_MAKE}")
    check_files(config)
    _check_by_verl(config)


def _check_without_verl(config: DictConfig, environment: Mapping[str, str]) -> None:
    # Before the block, whose max_candidates it is.
    if "dataset" in config:
        _check_candidates(config.dataset)
    check_trainer_config(config)
    check_machine(config, environment)


def _check_by_verl(config: DictConfig) -> None:
    # verl takes seconds to import, so this check comes last.
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    # The plugin wraps it in a check that needs the data.
    validate = getattr(validate_config, "__wrapped__", validate_config)
    try:
        # The run logs the same warnings again.
        with redirect_stdout(None), warnings.catch_warnings(action="ignore"):
            validate(config, need_reference_policy(config), need_critic(config))
    except Exception as error:
        # Hydra's own error repeats, around it, the one of the class that it calls.
        raise ValueError(f"verl refuses it: {error.__cause__ or error}") from None


def _check_candidates(dataset: DictConfig) -> None:
    count = dataset.candidates
    if type(count) is not int or count < 1:
        raise ValueError(f"dataset.candidates={count}: write a whole number of 1 or more.")
    stamp = read_stamp(Path(dataset.folder))
    if stamp is None:
        return
    for name, verb in (("candidates", "ask for"), ("viewers_per_prompt", "are about")):
        configured, prepared = dataset.get(name, 1), stamp.get(name, 1)
        if prepared != configured:
            raise ValueError(
                f"dataset.{name}={configured}, but the prompts in {dataset.folder} {verb} "
                f"{prepared}: prepare the data with --{name} {configured}."
            )


def main(overrides: list[str], command: Sequence[str] | None = None) -> None:
    """Print the command, check its configuration and data, and try the reward function.

    Exits with 1 if the run would not start, its prompts could not be used or its rewards would
    fail.

    Args:
        overrides: Overrides of `main_shape_grpo`.
        command: Command to print; None: that of `main_shape_grpo`.
    """
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return
    command = command or ["python", "-m", "recipe.shape_grpo.main_shape_grpo", *overrides]
    start = [*itertools.takewhile(lambda word: "=" not in word, command)]
    print(" \\\n    ".join([shlex.join(start), *map(shlex.quote, command[len(start) :])]))
    try:
        config = compose_config(overrides)
        choose_platform(config)
        check_config(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")
    from recipe.shape_grpo.runs.dry_run import Failed, scale_line, try_run

    unscaled = [text for text in overrides if not text.startswith("+scale=")]
    if len(unscaled) < len(overrides) and (line := scale_line(config, compose_config(unscaled))):
        print(line)
    problems = list(missing_files(config))
    for problem in problems:
        print(f"Missing: {problem}")
    if problems:
        sys.exit(HOW_TO_MAKE)
    try:
        for line in try_run(config):
            print(line)
    except Failed as error:
        sys.exit(str(error))
    print("The configuration is valid.")


if __name__ == "__main__":
    main(sys.argv[1:])
