"""The folder of one training run: metrics, log, rollouts and settings, whatever the trainer.

- ``metrics.jsonl``: one line per step, ``{"step": 3, "data": {"critic/score/mean": 4.1, ...}}``, as
  verl's file logger writes it; step 0 is the validation before training.
- ``settings.json``, written when the run is finished: `RunSettings`, and what the run was made
  from. The block ``shape_grpo`` says how candidates were found and credited, and ``norm_by_std``
  (verl) whether advantages were divided by the group's standard deviation.
- ``metrics.samples.md``: a few responses with their credit, every few steps (verl).
- ``begun.json``: the same as ``settings.json``, written at the start.
- ``metrics-before.jsonl``: the steps before verl resumed from a checkpoint, until the run is
  finished.
- ``lock``: held by the run's processes while they last (`common.locks`).
- ``train.log``: the trainer's output, of all starts. ``rollouts/STEP.jsonl``: one response per
  line, in the format of verl's ``trainer.rollout_data_dir``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from numbers import Real
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from recipe.shape_grpo.common.files import STAMP, is_current, write_stamp, write_whole

METRICS = "metrics.jsonl"
SAMPLES = "metrics.samples.md"
METRICS_BEFORE = "metrics-before.jsonl"
BEGUN = "begun.json"
CHECKPOINTS = "checkpoints"
LATEST_CHECKPOINT = "latest_checkpointed_iteration.txt"
"""File in the folder of checkpoints: the newest step whose checkpoint is complete."""

WRITTEN = ("format", "format_options", "thoughts")
"""Keys of the block ``shape_grpo`` that say how candidates are written."""
MAX_RESPONSE_LENGTH = "max_response_length"
"""Key of the settings of runs and exported policies: tokens of a response in training."""

LOG = "train.log"
ROLLOUTS = "rollouts"
# If a task has an accuracy too, verl names its reward val-aux.
_HELD_OUT = re.compile(r"val-(core|aux)/.+/reward/mean@\d+")


@dataclass(frozen=True)
class RunSettings:
    """Settings that identify a run, and by which reports compare runs.

    Attributes:
        trainer: ``verl``, ``trl`` or ``catalogue``.
        task: The dataset's name.
        method: A file of `shape_grpo/methods`.
        candidates: K.
        seed: Seed of all random numbers in the run.
        learning_rate: Learning rate of the policy.
        steps: Number of updates of the policy.
    """

    trainer: str
    task: str
    method: str
    candidates: int
    seed: int
    learning_rate: float
    steps: int


def read_metrics(run: Path) -> dict[int, dict[str, Any]]:
    """Return the metrics in the folder ``run``, by step.

    Of a repeated step the last value of each metric: a run that resumes logs a validation alone
    under the checkpoint's step.
    """
    return read_steps(run / METRICS_BEFORE, run / METRICS)


def read_steps(*files: Path) -> dict[int, dict[str, Any]]:
    """Return the metrics in files of verl's file logger, as `read_metrics`.

    Raises:
        ValueError: A line does not hold a step and its data.
    """
    records = [
        _read_line(file, number, line)
        for file in files
        for number, line in enumerate(_whole_lines(file), start=1)
    ]
    steps: dict[int, dict[str, Any]] = {}
    for step, data in sorted(records, key=itemgetter(0)):
        steps.setdefault(step, {}).update(data)
    return steps


def _read_line(file: Path, number: int, line: str) -> tuple[int, dict[str, Any]]:
    try:
        record = json.loads(line)
        return int(record["step"]), dict(record["data"])
    except (KeyError, OverflowError, TypeError, ValueError):
        raise ValueError(
            f'{file}, line {number}, is not {{"step": 1, "data": {{...}}}} in JSON: remove the line'
        ) from None


def _whole_lines(file: Path) -> list[str]:
    """Return the complete lines of a file; the last line may still be being written."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [line for line in lines if line.endswith("\n") and line.strip()]


def held_out_reward(metrics: Mapping[str, Any]) -> float:
    """Return a step's held-out set reward, the mean over its test sets; NaN if it has none."""
    return mean(value for name, value in metrics.items() if _HELD_OUT.fullmatch(name))


def number(value: Any) -> float:
    """Return a metric as a float; NaN if it is not a finite number (null, text, a boolean)."""
    with suppress(OverflowError):
        if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    return math.nan


def mean(values: Iterable[Any]) -> float:
    """Return the mean of those values that are finite numbers; NaN if none is."""
    found = [value for value in map(number, values) if not math.isnan(value)]
    return fmean(found) if found else math.nan


def write_metrics(run: Path, step: int, data: Mapping[str, float]) -> None:
    """Append the metrics of one step."""
    with (run / METRICS).open("a") as file:
        file.write(_line(step, data))


def _line(step: int, data: Mapping[str, Any]) -> str:
    return json.dumps({"step": step, "data": dict(data)}) + "\n"


def is_whole(run: Path, settings: RunSettings, made_from: Mapping[str, Any]) -> bool:
    """Return whether the folder holds the finished run of these settings and inputs."""
    return is_current(run, {**asdict(settings), **made_from}, [METRICS])


def begin_run(run: Path, *, resume: bool = False) -> None:
    """Make the folder ready for a run; until `end_run` the run is unfinished.

    Args:
        run: The folder.
        resume: Whether to keep the metrics and samples up to the checkpoint. verl's file logger
            overwrites its file.
    """
    run.mkdir(parents=True, exist_ok=True)
    if resume:
        files = (run / METRICS_BEFORE, run / METRICS)
        write_whole(run / METRICS_BEFORE, "".join(line for f in files for line in _whole_lines(f)))
    else:
        for name in (METRICS_BEFORE, SAMPLES):
            (run / name).unlink(missing_ok=True)
    for name in (STAMP, METRICS):
        (run / name).unlink(missing_ok=True)


def end_run(run: Path, settings: RunSettings, made_from: Mapping[str, Any]) -> None:
    """Record that the run is finished, and its settings."""
    if (run / METRICS_BEFORE).exists():
        lines = [_line(step, data) for step, data in read_metrics(run).items()]
        write_whole(run / METRICS, "".join(lines))
        (run / METRICS_BEFORE).unlink()
    write_stamp(run, {**asdict(settings), **made_from})
