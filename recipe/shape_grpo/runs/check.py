"""A run's configuration: composed and checked, without a GPU and without starting anything.

    python -m recipe.shape_grpo.runs.check +task=netflix +method=shape_grpo ...

is the dry run: it takes the overrides of `main_shape_grpo`, and refuses what a run refuses before
Ray starts. Each override must be a key of verl's configuration or of this project's; the result
must pass verl's own checks and this project's (`shape_grpo.verl.checks`), and the prompts must ask
for as many candidates as the configuration says. Data that are not there yet only a run refuses.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.methods import CONFIG


def compose_config(overrides: list[str]) -> DictConfig:
    """The configuration of `main_shape_grpo` under these overrides, its interpolations resolved.

    Raises:
        ValueError: An override is no key, or an interpolation leads nowhere.
    """
    try:
        with initialize_config_dir(str(CONFIG), version_base=None):
            config = compose("shape_grpo_trainer", overrides=overrides)
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        reasons = [str(error), str(error.__cause__ or "")]
        raise ValueError(" ".join(line for r in reasons for line in r.splitlines()[:2])) from None
    return config


def check_config(config: DictConfig) -> None:
    """Everything about a configuration that can be checked without starting a run.

    Raises:
        ValueError: What is wrong, and what to write instead.
    """
    # verl takes seconds to import, and a sweep of simulations does without.
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    from shape_grpo.verl.checks import check_trainer_config

    check_trainer_config(config)
    try:
        validate_config(config, need_reference_policy(config), need_critic(config))
    except AssertionError as error:
        raise ValueError(str(error)) from None
    if "dataset" in config:
        _check_candidates(config.dataset)


def missing_data(config: DictConfig) -> list[str]:
    """The local data files of a configuration that do not exist."""
    files: list[str] = []
    for paths in (config.data.train_files, config.data.val_files):
        files += list(paths) if isinstance(paths, ListConfig) else [paths]
    return [path for path in map(str, files) if "://" not in path and not Path(path).is_file()]


def check_run(config: DictConfig) -> None:
    """`check_config`, and that the data are there.

    Raises:
        ValueError: What is wrong, and what to write instead.
    """
    check_config(config)
    for path in missing_data(config):
        raise ValueError(f"data.train_files or data.val_files: there is no {path}. {HOW_TO_MAKE}")


HOW_TO_MAKE = "The task's file in config/task says how to make it."


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
    """The dry run: print the command, check its configuration, and say what is not there yet."""
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return
    command = ["python", "-m", "recipe.shape_grpo.main_shape_grpo", *overrides]
    print(" \\\n    ".join([shlex.join(command[:3]), *(shlex.quote(o) for o in overrides)]))
    try:
        config = compose_config(overrides)
        check_config(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")
    for path in missing_data(config):
        print(f"Not there yet: {path}. {HOW_TO_MAKE}")
    print("The configuration is valid.")


if __name__ == "__main__":
    main(sys.argv[1:])
