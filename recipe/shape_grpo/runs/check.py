"""Compose a run's configuration and check it, without a GPU and without starting anything.

    python -m recipe.shape_grpo.runs.check +task=netflix +method=shape_grpo ...

Takes the overrides of `main_shape_grpo`. Each must be a key of verl's configuration or of this
project's; the result must pass verl's own checks, this project's, and batch sizes that divide.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.runs.task_check import check_task
from shape_grpo.verl.config import check_trainer_config

CONFIG = Path(__file__).parents[1] / "config"


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
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    check_trainer_config(config)
    try:
        validate_config(config, need_reference_policy(config), need_critic(config))
    except AssertionError as error:
        raise ValueError(str(error)) from None
    _check_batch_sizes(config)
    check_task(config)


def _check_batch_sizes(config: DictConfig) -> None:
    """What verl would only find out in its workers."""
    actor, n = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout.n
    gpus = config.trainer.n_gpus_per_node * config.trainer.nnodes
    prompts, mini_batch = config.data.train_batch_size, actor.ppo_mini_batch_size
    if prompts % mini_batch:
        raise ValueError(
            f"data.train_batch_size={prompts} is no multiple of "
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch}."
        )
    if mini_batch * n % gpus:
        raise ValueError(
            f"ppo_mini_batch_size={mini_batch} times rollout.n={n} responses do not divide "
            f"among {gpus} GPUs."
        )
    micro_batch = actor.ppo_micro_batch_size_per_gpu
    if not actor.use_dynamic_bsz and mini_batch * n // gpus % micro_batch:
        raise ValueError(
            f"{mini_batch * n // gpus} responses a GPU and update are no multiple of "
            f"ppo_micro_batch_size_per_gpu={micro_batch}."
        )


def main() -> None:
    overrides = sys.argv[1:]
    command = ["python", "-m", "recipe.shape_grpo.main_shape_grpo", *overrides]
    print(" \\\n    ".join([shlex.join(command[:3]), *(shlex.quote(o) for o in overrides)]))
    try:
        config = compose_config(overrides)
        check_config(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")
    for files in (config.data.train_files, config.data.val_files):
        if not Path(str(files)).is_file():
            print(f"Not there yet: {files}. The task's file in config/task says how to make it.")
    print("The configuration is valid.")


if __name__ == "__main__":
    main()
