"""Train with ShapE-GRPO: brings the configuration, checks it, and hands over to verl.

    python -m recipe.shape_grpo.main_shape_grpo +task=netflix +method=shape_grpo ...

The same run through verl's own entry point takes the same keys as flags (README.md).
"""

import sys

import hydra
from omegaconf import DictConfig
from verl.trainer import main_ppo

from recipe.shape_grpo.runs.check import check_run


@hydra.main(config_path="config", config_name="shape_grpo_trainer", version_base=None)
def main(config: DictConfig) -> None:
    """Check ``config`` and run verl's trainer with it."""
    try:
        check_run(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")
    main_ppo.main(config)


if __name__ == "__main__":
    main()
