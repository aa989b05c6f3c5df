"""Train with ShapE-GRPO: brings the configuration, checks it, and hands over to verl.

    python -m recipe.shape_grpo.main_shape_grpo +task=netflix +method=shape_grpo ...

The same run through verl's own entry point takes the same flags after two more (README.md).
"""

import sys

import hydra
from omegaconf import DictConfig

from recipe.shape_grpo.runs.check import check_run, choose_platform, compose_config


@hydra.main(config_path="config", config_name="shape_grpo_trainer", version_base=None)
def main(config: DictConfig) -> None:
    """Check ``config`` and run verl's trainer with it."""
    refuse(config)
    from verl.trainer import main_ppo

    main_ppo.main(config)


def refuse(config: DictConfig) -> None:
    """End here, in one line, where a check refuses the run."""
    try:
        check_run(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")


def run(arguments: list[str]) -> None:
    """Check the command line before Hydra sees it, and train."""
    # Hydra takes seconds to import verl, writes the configuration to a file, and advises a + before
    # a misspelt key. It alone knows what its own options (--cfg, --multirun) make of the overrides.
    if not any(argument.startswith("-") for argument in arguments):
        try:
            config = compose_config(arguments)
        except ValueError as error:
            sys.exit(f"Configuration error: {error}")
        choose_platform(config)
        refuse(config)
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
