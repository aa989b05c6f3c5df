"""A prepared task as trainers in this process take it: prompts, reward function, configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
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
    RewardFunction,
    candidate_arguments,
    load_reward_function,
    reward_kwargs,
)

ROW = ("data_source", "reward_model", "extra_info")
"""The columns that reward functions are told of."""


@dataclass(frozen=True)
class PreparedTask:
    """A task's folder as a trainer needs it.

    Attributes:
        folder: With the prompts and, in ``policy``, the policy.
        stamp: What it was made from.
        config: What `config/task` says of it.
        reward_function: Its reward function, with the configuration's keywords.
    """

    folder: Path
    stamp: dict[str, Any]
    config: DictConfig
    reward_function: RewardFunction

    @property
    def name(self) -> str:
        """The dataset's."""
        return str(self.config.dataset.name)

    @property
    def reward(self) -> Callable[..., Any]:
        """Its reward function as TRL calls one."""
        return as_trl_reward(self.reward_function)

    @property
    def rules(self) -> dict[str, Any]:
        """What it sets of the block `algorithm.shape_grpo`."""
        return _as_dict(self.config.algorithm.shape_grpo)

    @property
    def policy(self) -> Path:
        """The policy's folder."""
        return self.folder / "policy"

    def prompts(self, split: str) -> Dataset:
        """The rows of ``train`` or ``test``, in verl's columns."""
        return Dataset.from_pandas(pd.read_parquet(self.folder / f"{split}.parquet"))


def load_prepared_task(folder: Path, candidates: int) -> PreparedTask:
    """The task in ``folder``, which has a policy.

    Raises:
        FileNotFoundError: There is no task, or no policy; says how to make it.
        ValueError: Its prompts ask for another number of candidates.
    """
    task = load_task_folder(folder)
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


def load_task_folder(folder: Path, overrides: Sequence[str] = ()) -> PreparedTask:
    """The task in ``folder``, whether or not it has a policy.

    Args:
        folder: Of the prepared task.
        overrides: Of its configuration, as a run takes them.

    Raises:
        FileNotFoundError: There is no task, or `config/task` has no file of its name.
        ValueError: Its files, the reward function or the overrides are not as they should be.
    """
    stamp = read_any_task(folder)
    kind = load_task(stamp["task"]).TaskSettings
    known = {field.name: stamp[field.name] for field in fields(kind) if field.name in stamp}
    dataset = kind(**known).dataset
    if not (CONFIG / "task" / f"{dataset}.yaml").is_file():
        raise FileNotFoundError(
            f"the rows in {folder} are of {dataset!r} (their data_source), and config/task has no "
            f"{dataset}.yaml: write one, as `python -m recipe.shape_grpo.tasks new` does"
        )
    config = _compose([f"+task={dataset}", *overrides])
    config.dataset.folder = str(folder)
    config.dataset.candidates = stamp["candidates"]
    function = config.reward.custom_reward_function
    if stamp["task"] == "own":
        stamp["reward"] = file_hashes([Path(function.path)])
    else:
        # Wherever the command is run.
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
    """Wrap a reward function that takes one candidate as one of TRL's, which take many.

    Its calls are concurrent, as in verl: many wait for a sandbox or for a server.
    """

    async def reward(**columns: Any) -> list[Any]:
        async def score(number: int, completion: Any) -> Any:
            row = {name: columns[name][number] for name in ROW}
            place = columns["candidate_index"][number], columns["num_candidates"][number]
            text = completion[-1]["content"]
            scored = await function.score(text, lambda t: candidate_arguments(row, t, *place))
            return scored.reward

        completions = enumerate(columns["completions"])
        return await asyncio.gather(*(score(*numbered) for numbered in completions))

    return reward


def _as_dict(block: DictConfig | None) -> dict[str, Any]:
    plain = OmegaConf.to_container(block, resolve=True) if block is not None else {}
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}
