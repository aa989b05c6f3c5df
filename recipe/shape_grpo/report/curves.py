"""Tables and pictures from the metrics of training runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.run_folder import held_out_reward, read_metrics

WINDOW = 8
"""Training steps that a point of a training curve averages over."""


@dataclass(frozen=True)
class Curve:
    """Best-of-set reward of one run.

    Attributes:
        validation: Step to the mean set reward on the test prompts.
        training: Step to the mean set reward of the rollouts of that step and the `WINDOW` - 1
            before it.
    """

    validation: dict[int, float]
    training: dict[int, float]

    @property
    def midway(self) -> float:
        """The validation nearest to half of the steps."""
        steps = list(self.validation)
        return self.validation[min(steps, key=lambda step: abs(step - steps[-1] / 2))]

    def first_step_at(self, level: float) -> int | None:
        """First step whose training curve is at ``level`` or above."""
        return next((step for step, value in self.training.items() if value >= level), None)


def read_curve(run: Path) -> Curve:
    """Read the curve of the run in the folder ``run``.

    Raises:
        RuntimeError: The metrics hold no validation.
    """
    validation, scores = {}, {}
    for step, metrics in read_metrics(run).items():
        if not math.isnan(held_out := held_out_reward(metrics)):
            validation[step] = held_out
        if "critic/score/mean" in metrics:
            scores[step] = float(metrics["critic/score/mean"])
    if not validation:
        raise RuntimeError(f"{run} holds no validation metrics: set trainer.test_freq.")
    values = list(scores.values())
    training = {
        step: float(np.mean(values[max(0, place + 1 - WINDOW) : place + 1]))
        for place, step in enumerate(scores)
        if place + 1 >= WINDOW
    }
    return Curve(validation, training)


@dataclass(frozen=True)
class Band:
    """Held-out reward over several seeds.

    Attributes:
        steps: Where it was measured.
        low: Lower ends of the 95% intervals of the mean over seeds.
        high: Upper ends.
        seeds: How many.
        spread: Standard deviation over seeds of the last value.
    """

    steps: list[int]
    low: list[float]
    high: list[float]
    seeds: int
    spread: float


def print_table(
    curves: Mapping[str, Curve],
    console: Console,
    *,
    levels: Mapping[str, float] | None = None,
    bands: Mapping[str, Band] | None = None,
) -> None:
    """Best-of-set reward at start, midway and end; where there is GRPO, how soon its end is met.

    Args:
        curves: Method to its run.
        console: Where it is printed.
        levels: What random, fixed and ideal sets would earn.
        bands: Method to what several seeds of it gave.
    """
    bands = bands or {}
    table = Table(title="Best-of-set reward")
    table.add_column("method")
    for heading in ("start", "midway", "end"):
        table.add_column(f"held-out, {heading}", justify="right")
    if any(method in bands for method in curves):
        table.add_column("end over seeds, 95%", justify="right")
    if "grpo" in curves:
        table.add_column("training: steps to GRPO's final value", justify="right")
    for method, curve in curves.items():
        values = list(curve.validation.values())
        row = [method, f"{values[0]:.3f}", f"{curve.midway:.3f}", f"{values[-1]:.3f}"]
        if any(method in bands for method in curves):
            band = bands.get(method)
            row.append(f"{band.low[-1]:.2f} to {band.high[-1]:.2f}" if band else "-")
        if "grpo" in curves:
            final = list(curves["grpo"].training.values())[-1]
            reached = curve.first_step_at(final)
            row.append("not reached" if reached is None else str(reached))
        table.add_row(*row)
    console.print(table)
    console.print(_how_to_read(curves, levels, bands))


def _how_to_read(
    curves: Mapping[str, Curve],
    levels: Mapping[str, float] | None,
    bands: Mapping[str, Band],
) -> str:
    """What the table's numbers are, and what one seed of them can show."""
    words = [
        "Held-out: sampled answers to test prompts; all methods start from one policy, and their "
        "start values differ by the sampling alone."
    ]
    if "grpo" in curves:
        words.append(f"Training: the mean of the last {WINDOW} steps' rollouts.")
    if levels:
        known = ", ".join(f"{name} {reward:.2f}" for name, reward in levels.items())
        words.append(
            f"For comparison, sets that are {known} (fixed: the best one set for all test viewers, "
            "chosen with their ratings; ideal: the best film of each viewer)."
        )
    compared = [band for method, band in bands.items() if method in curves]
    if compared:
        spread = max(band.spread for band in compared)
        words.append(
            "One seed shows that a method learns, and not which method learns faster: runs of one "
            f"method scatter by {spread:.2f} (standard deviation over {compared[0].seeds} seeds). "
            "The bands of the picture show the mean of these seeds."
        )
    return " ".join(words)


COLOURS = {"grpo": "#808285", "shape_grpo": "#0072B2", "praise": "#D55E00"}
"""Of methods, as far as they have one of their own."""


def plot_curves(
    curves: Mapping[str, Curve], path: Path, bands: Mapping[str, Band] | None = None
) -> None:
    """Draw training curves (lines) and validations (marks) into a PNG, over bands of more seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    legend = [f"line: training, mean of {WINDOW} steps", "dots: held-out viewers"]
    for number, (method, curve) in enumerate(curves.items()):
        colour = COLOURS.get(method, f"C{number}")
        axes.plot(
            list(curve.training), list(curve.training.values()), color=colour, label=method, lw=2
        )
        axes.plot(list(curve.validation), list(curve.validation.values()), "o", color=colour, ms=6)
        if bands and method in bands:
            band = bands[method]
            axes.fill_between(band.steps, band.low, band.high, color=colour, alpha=0.2, lw=0)
            seeds = f"band: held-out, 95% interval of the mean of {band.seeds} other seeds"
            legend = [*legend[:2], seeds]
    axes.set_xlabel("training step")
    axes.set_ylabel("best-of-set reward (stars)")
    axes.grid(alpha=0.3)
    axes.legend(title="\n".join(legend), fontsize=8, title_fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
