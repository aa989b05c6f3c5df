"""Summary of a run: a table of rewards and candidates, failures, and the files it wrote."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.run_folder import (
    CHECKPOINTS,
    LOG,
    METRICS,
    ROLLOUTS,
    SAMPLES,
    held_out_reward,
    mean,
    number,
    read_metrics,
)
from shape_grpo.rewards.answers import MOST_CUT, MOST_WITHOUT

Steps = Sequence[Mapping[str, Any]]
"""Metrics of several steps."""

FEW = 5
"""Number of steps averaged at the start and at the end of a run."""
MEANS = {
    "critic/score/mean": "training reward (all responses)",
    "shape_grpo/best_candidate_reward": "best candidate (responses that have one)",
    "shape_grpo/candidate_reward": "mean candidate",
    "shape_grpo/num_candidates": "candidates per response",
    "shape_grpo/distinct_candidates": "distinct candidates",
    "shape_grpo/responses_without_candidates": "responses without candidates",
    "response_length/mean": "tokens per response",
    "actor/entropy": "entropy",
    "actor/grad_norm": "gradient norm",
    "timing_s/step": "seconds per step",
}
"""Metrics of training steps, and their names in the table."""
PLACES = {
    METRICS: "one line per step; curves: python -m recipe.shape_grpo.report {run}",
    SAMPLES: "some responses with their credit, every few steps",
    LOG: "verl's output",
    ROLLOUTS: "responses and candidates; python -m recipe.shape_grpo.report credit-map {run}",
    CHECKPOINTS: "the policy, and the state to resume from",
}
"""Files of a run's folder, and their descriptions."""


def print_summary(run: Path, console: Console) -> None:
    """Print the summary of the run in the folder.

    Raises:
        ValueError: The folder has no metrics.
    """
    metrics = read_metrics(run)
    if not metrics:
        raise ValueError(f"{run / METRICS} holds no step: see {run / LOG}")
    settings = read_stamp(run) or {}
    title = " by ".join(str(settings[name]) for name in ("task", "method") if name in settings)
    table = Table(title=title)
    table.add_column(f"{max(metrics)} steps")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    held_out = [value for data in metrics.values() if (value := held_out_reward(data)) == value]
    if held_out:
        table.add_row("held-out reward", f"{held_out[0]:.3f}", f"{held_out[-1]:.3f}")
    trained = [data for step, data in metrics.items() if step > 0]
    for name, words in MEANS.items():
        if any(name in data for data in trained):
            table.add_row(words, *(_text(_mean(part, name)) for part in _both_ends(trained)))
    console.print(table)
    console.print(f"Training rows: means of the first and the last {FEW} steps. {_losses(trained)}")
    for sentence in _warnings(trained[-FEW:]):
        console.print(sentence)
    for name, words in PLACES.items():
        if (run / name).exists():
            console.print(f"{run / name}: {words.format(run=run)}", soft_wrap=True)


def _both_ends(steps: Steps) -> tuple[Steps, Steps]:
    return steps[:FEW], steps[-FEW:]


def _mean(steps: Steps, name: str) -> float:
    return mean(data.get(name) for data in steps)


def _text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _warnings(steps: Steps) -> Iterator[str]:
    """Yield a sentence if most responses of the last steps were cut off or hold no candidates."""
    cut = _mean(steps, "response_length/clip_ratio")
    without = _mean(steps, "shape_grpo/responses_without_candidates")
    if cut >= MOST_CUT:
        yield (
            f"{cut:.0%} of the last responses were cut off at data.max_response_length: write a "
            "larger value, or ask for shorter answers."
        )
    if without >= MOST_WITHOUT:
        yield (
            f"{without:.0%} of the last responses hold no candidate: compare the samples with "
            "algorithm.shape_grpo.format and thoughts."
        )


def _losses(steps: Steps) -> str:
    """Return the numbers of failed rewards and missing responses, over all steps."""

    def total(name: str) -> int:
        counts = (number(data.get(name)) for data in steps)
        return round(sum(count for count in counts if not math.isnan(count)))

    errors = total("shape_grpo/reward_errors")
    arrived, expected = total("shape_grpo/responses"), total("shape_grpo/responses_expected")
    words = [f"Failed rewards: {errors}" + (" (reasons: see the log)" if errors else "")]
    if expected:
        words.append(f"missing responses: {expected - arrived} of {expected}")
    return "; ".join(words) + "."
