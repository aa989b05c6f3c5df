"""Checks that the files of a run exist and have enough rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, ListConfig


def check_files(config: DictConfig) -> None:
    """Check before Ray starts that the data and the policy exist.

    Skipped if Ray runs elsewhere (``RAY_ADDRESS`` or ``ray_kwargs.ray_init.address``), because its
    machines may have other files.

    Raises:
        ValueError: A file is missing or too short; the message is the first of `missing_files`.
    """
    for problem in missing_files(config):
        raise ValueError(problem)


def missing_files(config: DictConfig) -> Iterator[str]:
    """Yield one sentence per missing or too short file among a run's data and policy."""
    address = config.get("ray_kwargs", {}).get("ray_init", {}).get("address")
    if address not in (None, "local") or "RAY_ADDRESS" in os.environ:
        return
    folder = str(config.actor_rollout_ref.model.path)
    # dishes/policy could be a name on the hub, but not if the data are in dishes.
    beside_the_data = {path.parent for path in _local(config.data.train_files)} - {Path()}
    is_folder = is_folder_name(folder) or Path(folder).parent in beside_the_data
    if is_folder and not Path(folder).expanduser().is_dir():
        yield (
            f"actor_rollout_ref.model.path: there is no folder {folder}. Write the folder of a "
            "model, or its name on the hub, as Qwen/Qwen3-8B."
        )
    is_whole = True
    for key in ("train_files", "val_files"):
        for path in _local(config.data[key]):
            if not path.is_file():
                is_whole = False
                yield f"data.{key}: there is no {path}. Prepare the data first, or write its path."
    if is_whole:
        yield from _too_few_rows(config)


def _too_few_rows(config: DictConfig) -> Iterator[str]:
    """Yield a sentence if a batch exceeds the data; verl would raise ``ZeroDivisionError`` late."""
    paths = _local(config.data.train_files)
    batch_size = config.data.train_batch_size
    # Rows are counted in parquet files only, and only for verl's own dataset class.
    if config.data.custom_cls.path or any(path.suffix != ".parquet" for path in paths):
        return
    if len(paths) < len(_as_list(config.data.train_files)):
        return
    try:
        rows = sum(_rows(path) for path in paths)
    except (OSError, ValueError) as error:
        yield f"data.train_files: it cannot be read as parquet ({error})."
        return
    limit = config.data.get("train_max_samples", -1)
    used = min(rows, limit) if limit > 0 else rows
    if used < batch_size:
        limited = f", of which data.train_max_samples={limit} are used" if used < rows else ""
        yield (
            f"data.train_batch_size={batch_size}, but data.train_files has {rows} rows{limited}: "
            f"write {used} or less, or prepare more rows."
        )


def _rows(path: Path) -> int:
    # Imported here because the import takes a quarter of a second.
    from pyarrow import parquet

    rows: int = parquet.read_metadata(path).num_rows
    return rows


def _as_list(files: ListConfig | str) -> list[str]:
    return [str(path) for path in (files if isinstance(files, ListConfig) else [files])]


def _local(files: ListConfig | str) -> list[Path]:
    """Return the paths on this machine's file system, without hdfs:// and the like."""
    return [Path(path).expanduser() for path in _as_list(files) if "://" not in path]


def is_folder_name(model: str) -> bool:
    """Return whether a model's name can only be a folder; on the hub it is NAME or OWNER/NAME."""
    return "://" not in model and (model.startswith(("/", ".", "~")) or len(Path(model).parts) > 2)
