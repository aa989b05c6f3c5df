"""What the dry run tries of a run's data: rows, prompts, a made-up answer, the reward function."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from recipe.shape_grpo.runs.try_conversation import conversation_lines
from recipe.shape_grpo.runs.try_prompts import (
    NotLoaded,
    Prompts,
    asked_for_line,
    candidates_line,
    length_lines,
    load_tokenizer,
    read_prompts,
)
from recipe.shape_grpo.runs.try_reward import RewardFailed, try_reward
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.verl.data import as_list, local_paths, wrong_data
from shape_grpo.verl.files import runs_elsewhere

KEYS = ("train_files", "val_files")


class Failed(Exception):
    """Error for a run that could not train; the message says why."""


def try_run(config: DictConfig) -> Iterator[str]:
    """Yield what was found, line by line; at the end, what was not checked.

    Raises:
        Failed: The run could not train with its data; the message says why.
    """
    yield candidates_line(config)
    not_checked = list(_not_checked(config))
    is_here = _is_here(config)
    if is_here:
        for problem in wrong_data(config):
            raise Failed(f"Data error: {problem}")
        prompts = {key: read_prompts(config, key) for key in KEYS}
        yield from _try_prompts(config, prompts, not_checked)
    if is_here and not config.reward.reward_model.enable:
        try:
            yield try_reward(config, local_paths(config.data.train_files)[0])
        except RewardFailed as error:
            raise Failed(f"Reward error: {error}") from None
    for what in not_checked:
        yield f"Not checked: {what}."


def _try_prompts(
    config: DictConfig, prompts: dict[str, Prompts], not_checked: list[str]
) -> Iterator[str]:
    count = (
        config.dataset.candidates
        if "dataset" in config
        else ShapeGRPOConfig.from_algorithm(config.algorithm).max_candidates
    )
    for key, of_key in prompts.items():
        if count and (line := asked_for_line(of_key.sample, count)):
            yield f"data.{key}: {line}"
    try:
        tokenizer = load_tokenizer(config)
        yield from length_lines(config, tokenizer, prompts)
    except NotLoaded as error:
        not_checked.append(
            "the chat template, the lengths of the prompts, and a made-up answer, as the tokenizer "
            f"is not here ({error})"
        )
        return
    except ValueError as error:
        raise Failed(f"Data error: {error}") from None
    try:
        yield from conversation_lines(config, tokenizer, prompts["train_files"].sample[0])
    except ValueError as error:
        raise Failed(f"Format error: {error}") from None


def _is_here(config: DictConfig) -> bool:
    """Return whether all data are files of this machine that verl's own dataset class reads."""
    files = [path for key in KEYS for path in local_paths(config.data[key])]
    named = [path for key in KEYS for path in as_list(config.data[key])]
    are_local = len(files) == len(named) and all(path.is_file() for path in files)
    return are_local and not config.data.custom_cls.path


def _not_checked(config: DictConfig) -> Iterator[str]:
    """Yield what no check has seen, each with the reason."""
    if runs_elsewhere(config):
        yield "the files and packages of Ray's machines, which are elsewhere"
    if config.data.custom_cls.path:
        yield "the data and the reward function, as data.custom_cls reads the data in its own way"
    elif not _is_here(config):
        yield "the data and the reward function, as the data are not on this machine"
    model = str(config.actor_rollout_ref.model.path)
    if not Path(model).expanduser().is_dir():
        yield f"whether the hub has the model {model}, and whether it fits into memory"
    if config.reward.reward_model.enable:
        yield "the reward function, as it needs verl's reward model, which a run starts"


def scale_line(config: DictConfig, unscaled: DictConfig) -> str | None:
    """Return a sentence with the lengths of a scale that differ from the task's; else None.

    Args:
        config: The run's configuration.
        unscaled: The same without its scale.
    """
    changes = [
        f"data.{key}={value} (the task: {own})"
        for key in ("max_prompt_length", "max_response_length")
        if (value := config.data[key]) != (own := unscaled.data[key])
    ]
    if not changes:
        return None
    line = f"The scale sets {', '.join(changes)}."
    if config.data.max_response_length < unscaled.data.max_response_length:
        line += " They fit the scale's own policy: another model's answers may be cut off."
    return line
