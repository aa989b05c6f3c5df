"""A prepared task for trainers in this process: prompts, reward function, configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from recipe.shape_grpo.common.files import file_hashes, read_stamp
from recipe.shape_grpo.common.methods import CONFIG
from recipe.shape_grpo.tasks import load_task
from recipe.shape_grpo.tasks.own import read_any_task
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import (
    Failure,
    RewardFunction,
    candidate_arguments,
    load_reward_function,
    reward_kwargs,
)

ROW = ("data_source", "reward_model", "extra_info")
"""Columns of the data that reward functions receive."""


@dataclass(frozen=True)
class PreparedTask:
    """A prepared task.

    Attributes:
        folder: Folder of the prompts, and of the policy in ``policy``.
        stamp: Settings that the task was made from.
        config: Configuration from its file in `config/task`.
        reward_function: Reward function with the configuration's keywords.
    """

    folder: Path
    stamp: dict[str, Any]
    config: DictConfig
    reward_function: RewardFunction

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return str(self.config.dataset.name)

    @property
    def reward(self) -> Callable[..., Any]:
        """The reward function in TRL's form."""
        return as_trl_reward(self.reward_function)

    @property
    def rules(self) -> dict[str, Any]:
        """The task's settings of the block `algorithm.shape_grpo`."""
        block = OmegaConf.to_container(self.config.algorithm.shape_grpo, resolve=True)
        assert isinstance(block, dict)
        return {str(name): value for name, value in block.items()}

    @property
    def policy(self) -> Path:
        """The policy's folder."""
        return self.folder / "policy"

    def prompts(self, split: str) -> Dataset:
        """Return the rows of ``train`` or ``test``, in verl's columns."""
        return Dataset.from_pandas(pd.read_parquet(self.folder / f"{split}.parquet"))


def load_prepared_task(folder: Path, candidates: int, dataset: str | None = None) -> PreparedTask:
    """Load the task in ``folder``, which must have a policy.

    Args:
        folder: Folder of the prepared task.
        candidates: Number of candidates that the prompts must ask for.
        dataset: As for `load_task_folder`.

    Raises:
        FileNotFoundError: There is no task, or no policy; the message says how to make it.
        ValueError: The prompts ask for another number of candidates.
    """
    task = load_task_folder(folder, dataset=dataset)
    asked_for = task.stamp["candidates"]
    if asked_for != candidates:
        raise ValueError(
            f"candidates is {candidates}, but the prompts in {folder} ask for {asked_for}; prepare "
            f"them with --candidates {candidates}"
        )
    if read_stamp(task.policy) is None:
        raise FileNotFoundError(
            f"no policy in {task.policy}: train it with `python -m recipe.shape_grpo.policies tiny "
            f"{folder}`"
        )
    return task


def load_task_folder(
    folder: Path, overrides: Sequence[str] = (), dataset: str | None = None
) -> PreparedTask:
    """Load the task in ``folder``, with or without a policy.

    Args:
        folder: Folder of the prepared task.
        overrides: Hydra overrides of its configuration.
        dataset: A file of `config/task` for the same prompts; None: the one they were made for.

    Raises:
        FileNotFoundError: There is no task, or `config/task` has no file of its name.
        ValueError: Its files, the reward function or the overrides are invalid.
    """
    stamp = read_any_task(folder)
    kind = load_task(stamp["task"]).TaskSettings
    known = {field.name: stamp[field.name] for field in fields(kind) if field.name in stamp}
    made_for = kind(**known).dataset
    if not (CONFIG / "task" / f"{made_for}.yaml").is_file():
        raise FileNotFoundError(
            f"the rows in {folder} have the data_source {made_for!r}, and config/task has no "
            f"{made_for}.yaml: write one, as `python -m recipe.shape_grpo.tasks new` does"
        )
    config = _compose([f"+task={dataset or made_for}", *overrides])
    config.dataset.folder = str(folder)
    config.dataset.update({name: stamp[name] for name in config.dataset if name in stamp})
    function = config.reward.custom_reward_function
    if stamp["task"] == "own":
        stamp["reward"] = file_hashes([Path(function.path)])
    else:
        # A package path works in any working directory.
        function.path = "pkg://" + ".".join(Path(function.path).with_suffix("").parts)
    score = load_reward_function(config)
    assert score is not None
    block = ShapeGRPOConfig.from_algorithm(config.algorithm)
    reward_function = RewardFunction(score, block, reward_kwargs(config))
    return PreparedTask(folder, stamp, config, reward_function)


def _compose(overrides: Sequence[str]) -> DictConfig:
    try:
        with initialize_config_dir(str(CONFIG), version_base=None):
            return compose(overrides=list(overrides))
    except HydraException as error:
        raise ValueError(" ".join(str(error).split())) from None


def as_trl_reward(function: RewardFunction) -> Callable[..., Any]:
    """Return TRL's form of a reward function, for calls about one response (``per_response``)."""

    async def reward(completions: Sequence[Any], **columns: Any) -> list[Any]:
        arguments = partial(candidate_arguments, {name: columns[name][0] for name in ROW})
        places = list(zip(columns["candidate_index"], columns["num_candidates"], strict=True))
        texts = [completion[-1]["content"] for completion in completions]
        scored = await function.score_texts(texts, arguments, places)
        return [
            each.reward
            if isinstance(each.reward, Failure)
            else {**each.details, "score": each.reward}
            for each in scored
        ]

    async def utility(solutions: Sequence[str], **columns: Any) -> Any:
        arguments = partial(candidate_arguments, {name: columns[name] for name in ROW})
        places = [(index, columns["num_candidates"]) for index in columns["candidate_indices"]]
        return await function.ask(solutions, arguments, places)

    return utility if function.text_argument == "solutions" else reward
