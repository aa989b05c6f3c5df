"""Tables and pictures from the metrics of training runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.runs.folder import held_out_reward, read_metrics

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


def print_table(curves: dict[str, Curve], console: Console) -> None:
    """Best-of-set reward at start, midway and end; where there is GRPO, how soon its end is met."""
    table = Table(title="Best-of-set reward on held-out prompts")
    for heading in ("method", "start", "midway", "end"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    if "grpo" in curves:
        table.add_column("steps to reach GRPO's final value", justify="right")
        table.caption = f"Steps: by the mean of the last {WINDOW} steps' training rollouts."
    for method, curve in curves.items():
        values = list(curve.validation.values())
        row = [method, f"{values[0]:.3f}", f"{curve.midway:.3f}", f"{values[-1]:.3f}"]
        if "grpo" in curves:
            final = list(curves["grpo"].training.values())[-1]
            reached = curve.first_step_at(final)
            row.append("not reached" if reached is None else str(reached))
        table.add_row(*row)
    console.print(table)


def plot_curves(curves: dict[str, Curve], path: Path) -> None:
    """Draw training curves (lines) and validations (marks) into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for colour, (method, curve) in zip(("C0", "C1", "C2", "C3"), curves.items(), strict=False):
        axes.plot(
            list(curve.training), list(curve.training.values()), color=colour, label=method, lw=2
        )
        axes.plot(list(curve.validation), list(curve.validation.values()), "o", color=colour, ms=6)
    axes.set_xlabel("training step")
    axes.set_ylabel("best-of-set reward (stars)")
    axes.grid(alpha=0.3)
    axes.legend(title=f"line: training, mean of {WINDOW} steps\ndots: held-out viewers")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
