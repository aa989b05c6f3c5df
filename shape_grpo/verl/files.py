"""Checks that the files of a run exist and can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from shape_grpo.verl.chat_template import check_chat_template
from shape_grpo.verl.data import as_list, local_paths, wrong_data


def check_files(config: DictConfig) -> None:
    """Check before Ray starts that the data and the policy exist, and that verl can use them.

    Skipped if Ray runs elsewhere, because its machines may have other files.

    Raises:
        ValueError: A file is missing, or its rows or its chat template cannot be used.
    """
    for problem in missing_files(config):
        raise ValueError(problem)
    if not runs_elsewhere(config):
        check_chat_template(config)
        for problem in wrong_data(config):
            raise ValueError(problem)


def runs_elsewhere(config: DictConfig) -> bool:
    """Return whether a run connects to a Ray cluster, by ``RAY_ADDRESS`` or the configuration."""
    address = config.get("ray_kwargs", {}).get("ray_init", {}).get("address")
    return (address or os.environ.get("RAY_ADDRESS") or "local") != "local"


def missing_files(config: DictConfig) -> Iterator[str]:
    """Yield one sentence per missing file of data and policy; none if Ray runs elsewhere."""
    if runs_elsewhere(config):
        return
    folder = str(config.actor_rollout_ref.model.path)
    # dishes/policy could be a name on the hub, but not if the data are in dishes.
    beside_the_data = {path.parent for path in local_paths(config.data.train_files)} - {Path()}
    is_folder = is_folder_name(folder) or Path(folder).parent in beside_the_data
    if is_folder and not Path(folder).expanduser().is_dir():
        yield (
            f"actor_rollout_ref.model.path: there is no folder {folder}. Write the folder of a "
            "model, or its name on the hub, as Qwen/Qwen3-8B."
        )
    for key in ("train_files", "val_files"):
        if not as_list(config.data[key]):
            yield f"data.{key} names no file, and verl needs one. Write the path of a parquet file."
        for path in local_paths(config.data[key]):
            if path.is_dir():
                yield f"data.{key}: {path} is a folder. Write its files, as [{path}/train.parquet]."
            elif not path.is_file():
                yield f"data.{key}: there is no {path}. Prepare the data first, or write its path."


def check_resume(config: DictConfig) -> None:
    """Check the checkpoint to resume from, which verl looks for after it has started Ray.

    Raises:
        ValueError: There is no such checkpoint.
    """
    path = config.trainer.resume_from_path
    if config.trainer.resume_mode != "resume_path":
        return
    if "global_step_" not in str(path):
        raise ValueError(
            f"trainer.resume_from_path={path}: write the folder of a checkpoint, as "
            "RUN/checkpoints/global_step_100."
        )
    if not runs_elsewhere(config) and not Path(path).is_dir():
        raise ValueError(f"trainer.resume_from_path: there is no folder {path}.")


def is_folder_name(model: str) -> bool:
    """Return whether a model's name can only be a folder; on the hub it is NAME or OWNER/NAME."""
    return "://" not in model and (model.startswith(("/", ".", "~")) or len(Path(model).parts) > 2)
