"""Train with ShapE-GRPO: compose and check the configuration, and run verl's trainer.

    python -m recipe.shape_grpo.main_shape_grpo +task=netflix +method=shape_grpo ...

It prints all that verl prints, for launchers and ``ray job submit``. ``recipe.shape_grpo.runs``
starts it for one quiet run. verl's own entry point takes the same flags after two more (README.md).
"""

import os
import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from recipe.shape_grpo.runs.check import check_run, choose_platform, compose_config
from shape_grpo.verl.trackers import tracker_names


@hydra.main(config_path="config", config_name="shape_grpo_trainer", version_base=None)
def main(config: DictConfig) -> None:
    """Check ``config`` and run verl's trainer with it."""
    refuse(config)
    from verl.trainer import main_ppo

    main_ppo.main(config)
    print(where_metrics_are(config))


def where_metrics_are(config: DictConfig) -> str:
    """Return a line that names the file of the metrics, or the trackers that have them."""
    names = tracker_names(config)
    if "file" not in names:
        trackers = ", ".join(names) or "no tracker"
        return f"Metrics: {trackers} (trainer.logger=[console,file] also writes a file)"
    # As in verl.utils.tracking.FileLogger.
    folder = Path(os.environ.get("VERL_FILE_LOGGER_ROOT", ".")).expanduser()
    default = folder / config.trainer.project_name / f"{config.trainer.experiment_name}.jsonl"
    return f"Metrics, one line per step: {os.environ.get('VERL_FILE_LOGGER_PATH', default)}"


def refuse(config: DictConfig) -> None:
    """Exit with a one-line message if a check fails."""
    try:
        check_run(config)
    except ValueError as error:
        sys.exit(f"Configuration error: {error}")


def run(arguments: list[str]) -> None:
    """Check the command line before Hydra sees it, and train."""
    # Hydra takes seconds to import verl, writes the configuration to a file, and advises a + before
    # a misspelt key. With Hydra's own options (--cfg, --multirun), the check is left to `main`.
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
