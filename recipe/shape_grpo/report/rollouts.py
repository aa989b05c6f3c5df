"""Responses of a run: ``RUN/rollouts/STEP.jsonl``, as verl's ``trainer.rollout_data_dir``.

A line is one response: ``input``, ``output``, ``score``, ``step``, in verl its ``uid``, and under
``shape_grpo`` the JSON of a `shape_grpo.advantage.CandidateRecord`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipe.shape_grpo.runs.folder import ROLLOUTS

RECORD = "shape_grpo"
"""`shape_grpo.verl.checks.RECORD_KEY`, which cannot be imported without torch."""


def rollout_files(run: Path) -> dict[int, Path]:
    """The files of a run's rollouts, by step."""
    files = {int(file.stem): file for file in (run / ROLLOUTS).glob("*.jsonl")
             if file.stem.isdecimal()}  # fmt: skip
    return dict(sorted(files.items()))


def read_rollouts(file: Path) -> list[dict[str, Any]]:
    """The responses in one file that have a record of their candidates, parsed.

    Others are padding, earlier outputs of a rollout, or not from this package's trainer. A last
    line that is still being written is ignored.

    Raises:
        ValueError: A line that is not JSON.
    """
    rollouts = []
    lines = file.read_text().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            continue
        try:
            rollout = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number}, is not JSON: {error}") from None
        if rollout.get(RECORD):
            rollouts.append({**rollout, RECORD: json.loads(rollout[RECORD])})
    return rollouts


def length_variations(rollouts: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Standard deviation (ddof 0) over mean of the candidates' lengths in tokens, one a response of
    two or more candidates with a reward."""
    variations = []
    for rollout in rollouts:
        record = rollout[RECORD]
        spans = zip(record["rewards"], record["starts"], record["ends"], strict=True)
        lengths = [end - start for reward, start, end in spans if reward is not None]
        if len(lengths) > 1 and sum(lengths):
            variations.append(np.std(lengths) / np.mean(lengths))
    return np.array(variations, dtype=float)
