"""Checks of the rows of a run's data, before Ray starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from shape_grpo.registry import did_you_mean
from shape_grpo.verl.chat_template import has_no_processor, read_chat_template
from shape_grpo.verl.prompts import chat_form, wrong_message, wrong_prompt
from shape_grpo.verl.values import AGENT_LOOPS

CHECKED = 100_000
"""Number of rows of a file that are checked, which takes about a second."""
_MANAGERS = ("multi_candidate", "naive", "dapo", "gdpo", "remote")
"""Reward managers that read ``data_source`` and ``reward_model`` of every row."""
TAKEN = (
    *("sampling_params", "trajectory", "trace", "session_id", "output", "validate", "self"),
    *("prompts", "responses", "response_mask", "rm_scores", "rollout_log_probs", "routed_experts"),
    *("extra_fields", "num_turns"),
)
"""Columns that collide with keywords of verl's agent loop, which gets every column as one, or that
replace a field of its output that the trainer reads."""
Check = Callable[[Any], str | None]
"""Returns what is wrong with a row's value and what to write; None if it is right."""


@dataclass
class _File:
    """A file of the data.

    Attributes:
        where: The key that names it, and its path.
        rows: Number of its rows.
        checked: Number of rows that were checked.
        without_truth: Number of those whose ``ground_truth`` is null.
        faults: Sentences about rows that verl or a reward function could not use.
    """

    where: str
    rows: int = 0
    checked: int = 0
    without_truth: int = 0
    faults: list[str] = field(default_factory=list)


def as_list(files: ListConfig | str | None) -> list[str]:
    """Return the files of a key, which may name one or several."""
    named = files if isinstance(files, ListConfig) else [files]
    return [str(path) for path in named if path is not None]


def _disagreeing(config: DictConfig, key: str) -> Iterator[str]:
    """Yield a sentence per file whose columns are of other types than the first one's."""
    paths = local_paths(config.data[key])
    if len(paths) < 2:
        return
    # Imported here because the imports take a second.
    from datasets import Dataset, concatenate_datasets
    from pyarrow import ArrowException, Table

    from shape_grpo.rewards.rows import read_schema

    try:
        # Of tables without rows, datasets would not compare the types.
        tables = [Table.from_pylist([{}], schema=read_schema(path)) for path in paths]
    except ArrowException:  # A type that has no null.
        return
    first, *others = zip(paths, map(Dataset, tables), strict=True)
    for path, rows in others:
        try:
            concatenate_datasets([first[1], rows])
        except ValueError as error:
            told = " ".join(str(error).split())
            yield (
                f"data.{key}: {first[0]} and {path} have columns of different types, which verl "
                f"cannot join: {told[:400]}. Write both with the same types."
            )


def local_paths(files: ListConfig | str | None) -> list[Path]:
    """Return the paths on this machine's file system, without hdfs:// and the like."""
    paths = [path.removeprefix("file://") for path in as_list(files)]
    return [Path(path).expanduser() for path in paths if "://" not in path]


def wrong_data(config: DictConfig) -> Iterator[str]:
    """Yield one sentence per fault of a run's data, whose files must exist.

    A custom dataset class (``data.custom_cls``) reads them in its own way: they are not checked.
    """
    if config.data.custom_cls.path:
        return
    checks = _checks(config)
    files = {
        key: [_read(f"data.{key}: {path}", path, checks) for path in local_paths(config.data[key])]
        for key in ("train_files", "val_files")
    }
    both = [file for of_key in files.values() for file in of_key]
    faults = [fault for file in both for fault in file.faults]
    # A task without reference answers has none in any row.
    if any(file.without_truth < file.checked for file in both):
        faults += [
            f"{file.where}: reward_model.ground_truth is null in {file.without_truth} of "
            f'{file.checked} rows, and other rows have one. Write it, or "" where there is none.'
            for file in both
            if file.without_truth
        ]
    if not faults:
        faults = [fault for key in files for fault in _disagreeing(config, key)]
    yield from faults
    if not faults and len(files["train_files"]) == len(as_list(config.data.train_files)):
        yield from _too_few_rows(config, sum(file.rows for file in files["train_files"]))


def _checks(config: DictConfig) -> dict[str, Check]:
    """Return the columns that a run reads, each with its check."""
    template, name = read_chat_template(config), config.data.get("prompt_key", "prompt")

    def prompt(value: Any) -> str | None:
        return wrong_prompt(value, name) or wrong_message(value, template)

    checks: dict[str, Check] = {name: prompt, "extra_info": _wrong_extra_info}
    if config.reward.reward_manager.name in _MANAGERS:
        checks |= {"data_source": _wrong_data_source, "reward_model": _wrong_reward_model}
    agent = config.actor_rollout_ref.rollout.get("agent") or {}
    if not agent.get("agent_loop_config_path") and not _has_extensions(config):
        checks["agent_name"] = _wrong_agent
    if has_no_processor(config):
        for modality in ("image", "video", "audio"):
            checks[config.data.get(f"{modality}_key", f"{modality}s")] = _wrong_modality
    return checks


def _has_extensions(config: DictConfig) -> bool:
    """Return whether a run may register agent loops."""
    block = config.get("algorithm", {}).get("shape_grpo") or {}
    return bool(block.get("extensions") or os.environ.get("VERL_USE_EXTERNAL_MODULES"))


def _read(where: str, path: Path, checks: Mapping[str, Check]) -> _File:
    from shape_grpo.rewards.rows import SUFFIXES, read_row, read_rows, read_schema

    needed = [*checks][:1] + [name for name in ("data_source", "reward_model") if name in checks]
    file = _File(where)
    if path.suffix not in SUFFIXES:
        file.faults = [f"{where}: verl reads files that end in {', '.join(SUFFIXES)}."]
        return file
    columns: set[str] = set()
    faults: dict[str, list[int]] = {}
    try:
        rows = read_rows(path, [*checks])
        names = read_schema(path).names if path.suffix == ".parquet" else ()
        for number, row in enumerate(islice(rows, CHECKED)):
            file.checked += 1
            columns |= row.keys()
            for name, check in checks.items():
                if fault := check(row.get(name)):
                    faults.setdefault(fault, []).append(number)
            reward_model = row.get("reward_model")
            file.without_truth += (
                isinstance(reward_model, dict) and reward_model.get("ground_truth", "") is None
            )
        file.rows = file.checked + _further(path, rows)
        missing = [name for name in checks if name in needed and name not in columns]
        taken = [name for name in TAKEN if name in columns.union(names)]
        # Read again, as only the columns of the checks were read.
        first = read_row(path, 0) if missing and file.rows else {}
    except (OSError, ValueError) as error:
        kind = path.suffix.removeprefix(".")
        file.faults = [f"{where} cannot be read as {kind} ({error})."]
        return file
    if not file.rows:
        file.faults = [f"{where} has no rows. Prepare the data again."]
        return file
    file.faults = [f"{where} {_no_column(name, first)}" for name in missing]
    file.faults += [
        f"{where} has a column {name}, a name that verl needs. Rename it, or put it into "
        "extra_info."
        for name in taken
    ]
    file.faults = file.faults or [
        f"{where}, {_rows(numbers, file.checked)}: {fault}" for fault, numbers in faults.items()
    ]
    return file


def _further(path: Path, rows: Iterator[Any]) -> int:
    """Return the number of rows after those that were read."""
    if path.suffix != ".parquet":
        return sum(1 for _ in rows)
    from pyarrow.parquet import read_metadata

    return max(int(read_metadata(path).num_rows) - CHECKED, 0)


def _rows(numbers: list[int], total: int) -> str:
    if len(numbers) == total:
        return "every row"
    return f"row {numbers[0]}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else "")


def _no_column(name: str, first: Mapping[str, Any]) -> str:
    """Return the message for a missing column, by a file's first row."""
    has = f"has no column {name}; it has: {', '.join(first)}."
    if name == "data_source":
        return f"{has} Write the name of your task into it, the same for all of its rows."
    if name == "reward_model":
        return f"{has} {_REWARD_MODEL}"
    chats = [other for other, value in first.items() if wrong_prompt(value, other) is None]
    texts = [k for k, value in first.items() if isinstance(value, str) and k != "data_source"]
    if other := next(iter(chats), None):
        return f"{has} Write data.prompt_key={other}."
    return f"{has}{did_you_mean(name, first)} {chat_form(name, next(iter(texts), 'question'))}"


_REWARD_MODEL = 'Write {"style": "rule", "ground_truth": ANSWER} per row.'


def _wrong_data_source(value: Any) -> str | None:
    if isinstance(value, str | int | float):
        return None
    what = "null" if value is None else type(value).__name__
    return f"data_source is {what}. Write the name of your task."


def _wrong_reward_model(value: Any) -> str | None:
    if isinstance(value, dict):
        if "ground_truth" in value:
            return None
        close = did_you_mean("ground_truth", value)
        return f"reward_model has no ground_truth; it has: {', '.join(value)}.{close}"
    what = "null" if value is None else f"{type(value).__name__}, and no dict"
    return f"reward_model is {what}. {_REWARD_MODEL}"


def _wrong_extra_info(value: Any) -> str | None:
    if value is None or isinstance(value, dict):
        return None
    return f"extra_info is {type(value).__name__}. Write a dict, or leave the column out."


def _wrong_agent(value: Any) -> str | None:
    if value is None or value in AGENT_LOOPS:
        return None
    return (
        f"agent_name is {value!r:.60}, an agent loop that verl does not have; it has: "
        f"{', '.join(AGENT_LOOPS)}. Write actor_rollout_ref.rollout.agent.agent_loop_config_path="
        "FILE, which names yours, or leave the column out."
    )


def _wrong_modality(value: Any) -> str | None:
    if value is None or value == []:
        return None
    return (
        "there are images, videos or audios, and the policy reads text only: its folder has no "
        "processor. Leave the column out, or take another policy."
    )


def _too_few_rows(config: DictConfig, rows: int) -> Iterator[str]:
    """Yield a sentence if a batch exceeds the data; verl would raise ``ZeroDivisionError`` late."""
    limit, batch_size = config.data.get("train_max_samples", -1), config.data.train_batch_size
    used = min(rows, limit) if limit > 0 else rows
    if used < batch_size:
        limited = f", of which data.train_max_samples={limit} are used" if used < rows else ""
        yield (
            f"data.train_batch_size={batch_size}, but data.train_files has {rows} rows{limited}: "
            f"write {used} or less, or prepare more rows."
        )
