"""Checks of a task's configuration that need no GPU."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.utils.import_utils import load_module

from recipe.shape_grpo.files import STAMP


def check_task(config: DictConfig) -> None:
    """Check what a run would only find out candidate by candidate.

    Args:
        config: The whole configuration.

    Raises:
        ValueError: No such reward function, a keyword that it does not know, or prompts that were
            prepared for another K.
    """
    function = config.reward.custom_reward_function
    if function.path is not None:
        _check_reward_function(function, config.reward.reward_model.enable)
    if "dataset" in config:
        _check_candidates(config.dataset)


def _check_reward_function(function: DictConfig, has_reward_model: bool) -> None:
    where = "reward.custom_reward_function"
    try:
        module = load_module(function.path)
    except FileNotFoundError:
        raise ValueError(f"{where}.path={function.path}: there is no such file.") from None
    except (ImportError, RuntimeError) as error:
        why = error.__cause__ or error
        raise ValueError(
            f"{where}.path={function.path}: it cannot be imported ({type(why).__name__}: {why})."
        ) from error
    name = function.get("name") or "compute_score"
    score = getattr(module, name, None)
    if score is None:
        raise ValueError(f"{where}.path={function.path}: it has no function {name}.")
    plain = OmegaConf.to_container(function, resolve=True)
    assert isinstance(plain, dict)
    given = {str(name): value for name, value in (plain.get("reward_kwargs") or {}).items()}
    # A reward function takes what verl passes beside: a misspelt keyword would be lost in that.
    if hasattr(module, "check_reward_kwargs"):
        module.check_reward_kwargs(given, has_reward_model)
    else:
        _check_names(given, score, f"{where}.reward_kwargs")


def _check_names(given: Mapping[str, Any], score: Any, where: str) -> None:
    parameters = inspect.signature(score).parameters.values()
    known = [p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    takes_any = len(known) < len(parameters)
    for name in (name for name in given if name not in known):
        close = difflib.get_close_matches(name, known, n=1)
        if close or not takes_any:
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"{where}.{name}: the reward function does not name it.{hint}")


def _check_candidates(dataset: DictConfig) -> None:
    stamp = Path(dataset.folder) / STAMP
    prepared = json.loads(stamp.read_text()).get("k") if stamp.is_file() else None
    if prepared not in (None, dataset.candidates):
        raise ValueError(
            f"dataset.candidates={dataset.candidates}, but the prompts in {dataset.folder} ask "
            f"for {prepared}: prepare the data with --k {dataset.candidates}."
        )
