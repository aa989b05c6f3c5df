"""The folder of one training run, whatever trained it: metrics, log, rollouts, and what it was.

- ``metrics.jsonl``: one line a step, ``{"step": 3, "data": {"critic/score/mean": 4.1, ...}}``, as
  verl's file logger writes it; step 0 is the validation before training.
- ``settings.json``, written last: `RunSettings`, and what the run was made from. Without it the run
  is not whole. The block ``shape_grpo`` says how candidates were found and credited, and
  ``norm_by_std`` (verl) whether advantages were divided by the group's standard deviation.
- ``metrics.samples.md``: some responses with their credit, every few steps (verl).
- ``begun.json``, written first: the same of the run that was begun.
- ``metrics-before.jsonl``, until it is whole: the steps before verl went on from a checkpoint.
- ``train.log``: what the trainer printed. ``rollouts/STEP.jsonl``: the responses, one a line, as
  verl's ``trainer.rollout_data_dir`` has them.
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
"""In the folder of checkpoints: the newest step that verl has finished."""

LOG = "train.log"
ROLLOUTS = "rollouts"
# verl calls the reward auxiliary where there is an accuracy too.
_HELD_OUT = re.compile(r"val-(core|aux)/.+/reward/mean@\d+")


@dataclass(frozen=True)
class RunSettings:
    """What a run is compared by.

    Attributes:
        trainer: ``verl``, ``trl`` or ``catalogue``.
        task: The dataset's name.
        method: A file of `config/method`.
        candidates: K.
        seed: Of everything random in the run.
        learning_rate: Of the policy.
        steps: Updates of the policy.
    """

    trainer: str
    task: str
    method: str
    candidates: int
    seed: int
    learning_rate: float
    steps: int


def read_metrics(run: Path) -> dict[int, dict[str, Any]]:
    """The metrics in the folder ``run``, by step; of a step done twice, the last."""
    lines = [line for name in (METRICS_BEFORE, METRICS) for line in _whole_lines(run / name)]
    records = sorted(map(json.loads, lines), key=itemgetter("step"))
    return {record["step"]: record["data"] for record in records}


def _whole_lines(file: Path) -> list[str]:
    """The lines of a file, if there is one; the last may still be on its way to the disk."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [line for line in lines if line.endswith("\n")]


def held_out_reward(metrics: Mapping[str, Any]) -> float:
    """The held-out set reward among the metrics of a step, the mean over several sets; else NaN."""
    found = [value for name, value in metrics.items() if _HELD_OUT.fullmatch(name)]
    return fmean(found) if found else math.nan


def write_metrics(run: Path, step: int, data: Mapping[str, float]) -> None:
    """Append the metrics of one step."""
    with (run / METRICS).open("a") as file:
        file.write(json.dumps({"step": step, "data": dict(data)}) + "\n")


def is_whole(run: Path, settings: RunSettings, made_from: Mapping[str, Any]) -> bool:
    """Whether the folder holds the run of these settings, made from the same, to its end."""
    return is_current(run, {**asdict(settings), **made_from}, [METRICS])


def begin_run(run: Path, *, goes_on: bool = False) -> None:
    """Make the folder ready for a run; until `end_run` it is not whole.

    Args:
        run: The folder.
        goes_on: From a checkpoint: metrics and samples are kept. verl's file logger begins its
            file anew.
    """
    run.mkdir(parents=True, exist_ok=True)
    if goes_on:
        with (run / METRICS_BEFORE).open("a") as before:
            before.writelines(_whole_lines(run / METRICS))
    else:
        for name in (METRICS_BEFORE, SAMPLES):
            (run / name).unlink(missing_ok=True)
    for name in (STAMP, METRICS):
        (run / name).unlink(missing_ok=True)


def end_run(run: Path, settings: RunSettings, made_from: Mapping[str, Any]) -> None:
    """Record what the run was; call it after its last step."""
    if (run / METRICS_BEFORE).exists():
        metrics = read_metrics(run)
        (run / METRICS).unlink()
        for step, data in metrics.items():
            write_metrics(run, step, data)
        (run / METRICS_BEFORE).unlink()
    write_stamp(run, {**asdict(settings), **made_from})
