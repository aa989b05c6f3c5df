"""Responses of a run: ``RUN/rollouts/STEP.jsonl``, as in verl's ``trainer.rollout_data_dir``.

Each line is one response: ``input``, ``output``, ``score``, ``step``, in verl its ``uid``, and
under ``shape_grpo`` the JSON of a `shape_grpo.advantage.CandidateRecord`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipe.shape_grpo.common.run_folder import ROLLOUTS
from recipe.shape_grpo.report.results import Results

RECORD = "shape_grpo"
"""`shape_grpo.verl.checks.RECORD_KEY`, which cannot be imported without torch."""

FILES_READ = 4
"""Number of last steps of a run whose responses figure 2 shows."""


def rollout_files(run: Path) -> dict[int, Path]:
    """Return the files of a run's rollouts, by step."""
    files = {int(file.stem): file for file in (run / ROLLOUTS).glob("*.jsonl")
             if file.stem.isdecimal()}  # fmt: skip
    return dict(sorted(files.items()))


def no_rollouts(run: Path) -> str:
    """Return what to write where a run has no rollouts."""
    folder = run / ROLLOUTS
    return f"{run} has no rollouts/STEP.jsonl: train with trainer.rollout_data_dir={folder}"


def read_rollouts(file: Path) -> list[dict[str, Any]]:
    """Return the responses in one file that have a record of their candidates.

    Others are padding, earlier outputs of a rollout, or from another trainer. An incomplete last
    line is ignored.

    Raises:
        ValueError: A line is not JSON.
    """
    rollouts = []
    # splitlines would split at U+2028, which verl does not escape within a response.
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            rollout = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {number}, is not JSON: {error}") from None
        if rollout.get(RECORD):
            rollouts.append({**rollout, RECORD: json.loads(rollout[RECORD])})
    return rollouts


def length_variations(rollouts: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return standard deviation (ddof 0) over mean of the candidates' lengths in tokens.

    One value per response that has two or more candidates with a reward.
    """
    variations = []
    for rollout in rollouts:
        record = rollout[RECORD]
        spans = zip(record["rewards"], record["starts"], record["ends"], strict=True)
        lengths = [end - start for reward, start, end in spans if reward is not None]
        if len(lengths) > 1 and sum(lengths):
            variations.append(np.std(lengths) / np.mean(lengths))
    return np.array(variations, dtype=float)


def length_samples(results: Results) -> tuple[dict[tuple[str, str], Any], bool]:
    """Return coefficients of variation by setup and method, and whether they are per response.

    If any run has no rollouts, all values come from the metrics, which have one value per step.
    """
    cells = results.runs.groupby(["setup", "method"])
    responses = {}
    for cell, runs in cells:
        files = [list(rollout_files(Path(run)).values())[-FILES_READ:] for run in runs["folder"]]
        found = [
            length_variations(read_rollouts(file)) for run_files in files for file in run_files
        ]
        sample = np.concatenate([np.array([]), *found])
        if len(sample):
            responses[cell] = sample
    if len(responses) == len(cells):
        return responses, True
    steps = {
        cell: rows["length_variation"].dropna().to_numpy()
        for cell, rows in results.steps.groupby(["setup", "method"])
    }
    steps = {cell: sample for cell, sample in steps.items() if len(sample)}
    return (steps, False) if steps else (responses, True)
