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
- ``train.log``: the trainer's output. ``rollouts/STEP.jsonl``: one response per line, in the format
  of verl's ``trainer.rollout_data_dir``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from recipe.shape_grpo.common.files import STAMP, is_current, write_stamp

METRICS = "metrics.jsonl"
SAMPLES = "metrics.samples.md"
METRICS_BEFORE = "metrics-before.jsonl"
BEGUN = "begun.json"
CHECKPOINTS = "checkpoints"
LATEST_CHECKPOINT = "latest_checkpointed_iteration.txt"
"""File in the folder of checkpoints: the newest step whose checkpoint is complete."""

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
    """Return the metrics in the folder ``run``, by step; the last ones of a repeated step."""
    lines = [line for name in (METRICS_BEFORE, METRICS) for line in _whole_lines(run / name)]
    records = sorted(map(json.loads, lines), key=itemgetter("step"))
    return {record["step"]: record["data"] for record in records}


def _whole_lines(file: Path) -> list[str]:
    """Return the complete lines of a file; the last line may still be being written."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [line for line in lines if line.endswith("\n")]


def held_out_reward(metrics: Mapping[str, Any]) -> float:
    """Return a step's held-out set reward, the mean over its test sets; NaN if it has none."""
    found = [value for name, value in metrics.items() if _HELD_OUT.fullmatch(name)]
    return fmean(found) if found else math.nan


def write_metrics(run: Path, step: int, data: Mapping[str, float]) -> None:
    """Append the metrics of one step."""
    with (run / METRICS).open("a") as file:
        file.write(json.dumps({"step": step, "data": dict(data)}) + "\n")


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
        with (run / METRICS_BEFORE).open("a") as before:
            before.writelines(_whole_lines(run / METRICS))
    else:
        for name in (METRICS_BEFORE, SAMPLES):
            (run / name).unlink(missing_ok=True)
    for name in (STAMP, METRICS):
        (run / name).unlink(missing_ok=True)


def end_run(run: Path, settings: RunSettings, made_from: Mapping[str, Any]) -> None:
    """Record that the run is finished, and its settings."""
    if (run / METRICS_BEFORE).exists():
        metrics = read_metrics(run)
        (run / METRICS).unlink()
        for step, data in metrics.items():
            write_metrics(run, step, data)
        (run / METRICS_BEFORE).unlink()
    write_stamp(run, {**asdict(settings), **made_from})
