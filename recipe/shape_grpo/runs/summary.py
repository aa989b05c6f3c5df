"""What a run did, in a table at its end: rewards, candidates, errors, and where everything is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
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
    read_metrics,
)

FEW = 5
"""Steps at the start and at the end of a run that are averaged over."""
MEANS = {
    "critic/score/mean": "reward, in training",
    "shape_grpo/best_candidate_reward": "best candidate",
    "shape_grpo/candidate_reward": "mean candidate",
    "shape_grpo/num_candidates": "candidates a response",
    "shape_grpo/distinct_candidates": "different ones",
    "shape_grpo/responses_without_candidates": "responses without any",
    "response_length/mean": "tokens a response",
    "actor/entropy": "entropy",
    "actor/grad_norm": "gradient norm",
    "timing_s/step": "seconds a step",
}
"""Metrics of training steps to what the table calls them."""
PLACES = {
    METRICS: "one line a step; curves: python -m recipe.shape_grpo.report {run}",
    SAMPLES: "some responses with their credit, every few steps",
    LOG: "what verl printed",
    ROLLOUTS: "responses and candidates; python -m recipe.shape_grpo.report credit-map {run}",
    CHECKPOINTS: "the policy, and what going on needs",
}
"""What may be in a run's folder to what it is for."""


def print_summary(run: Path, console: Console) -> None:
    """Print what the run in the folder did.

    Raises:
        ValueError: There are no metrics in it.
    """
    metrics = read_metrics(run)
    if not metrics:
        raise ValueError(f"{run / METRICS} holds no step")
    settings = read_stamp(run) or {}
    title = " by ".join(str(settings[name]) for name in ("task", "method") if name in settings)
    table = Table(title=title)
    table.add_column(f"{max(metrics)} steps")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    held_out = [value for data in metrics.values() if (value := held_out_reward(data)) == value]
    if held_out:
        table.add_row("reward, held-out", f"{held_out[0]:.3f}", f"{held_out[-1]:.3f}")
    trained = [data for step, data in metrics.items() if step > 0]
    for name, words in MEANS.items():
        start, end = _mean(trained[:FEW], name), _mean(trained[-FEW:], name)
        if start is not None and end is not None:
            table.add_row(words, f"{start:.3f}", f"{end:.3f}")
    console.print(table)
    console.print(f"Training rows: means of the first and the last {FEW} steps. {_losses(trained)}")
    for name, words in PLACES.items():
        if (run / name).exists():
            console.print(f"{run / name}: {words.format(run=run)}", soft_wrap=True)


def _mean(steps: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(data[name]) for data in steps if name in data]
    return fmean(values) if values else None


def _losses(steps: Sequence[Mapping[str, Any]]) -> str:
    """Rewards that failed and responses that never came, over all steps."""

    def total(name: str) -> int:
        return round(sum(float(data.get(name, 0)) for data in steps))

    errors = total("shape_grpo/reward_errors")
    came, expected = total("shape_grpo/responses"), total("shape_grpo/responses_expected")
    words = [f"Rewards that failed: {errors}" + (" (why: the log)" if errors else "")]
    if expected:
        words.append(f"responses that never came: {expected - came} of {expected}")
    return "; ".join(words) + "."
