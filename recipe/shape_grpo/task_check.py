"""Checks of a task's configuration that need no GPU."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from recipe.shape_grpo.reuse import STAMP
from shape_grpo.verl.checks import check_reward_function


def check_task(config: DictConfig) -> None:
    """Check what a run would only find out candidate by candidate.

    Args:
        config: The whole configuration.

    Raises:
        ValueError: No such reward function, a keyword that it does not know, or prompts that were
            prepared for another K.
    """
    check_reward_function(config)
    if "dataset" in config:
        _check_candidates(config.dataset)


def _check_candidates(dataset: DictConfig) -> None:
    stamp = Path(dataset.folder) / STAMP
    prepared = json.loads(stamp.read_text()).get("k") if stamp.is_file() else None
    if prepared not in (None, dataset.candidates):
        raise ValueError(
            f"dataset.candidates={dataset.candidates}, but the prompts in {dataset.folder} ask "
            f"for {prepared}: prepare the data with --k {dataset.candidates}."
        )
