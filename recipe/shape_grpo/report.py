"""Tables and pictures from the metrics of training runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.launch import read_metrics


@dataclass(frozen=True)
class Curve:
    """Best-of-set reward of one run.

    Attributes:
        validation: Step to the mean set reward on the test prompts.
        training: Step to the mean set reward of the step's rollouts.
    """

    validation: dict[int, float]
    training: dict[int, float]

    def first_step_at(self, level: float) -> int | None:
        """First validated step that reached ``level``."""
        return next((step for step, value in self.validation.items() if value >= level), None)

    @property
    def midway(self) -> float:
        steps = list(self.validation)
        return self.validation[min(steps, key=lambda step: abs(step - steps[-1] / 2))]


def validation_curve(run: Path) -> Curve:
    """Read the curve of the run in the folder ``run``.

    Raises:
        RuntimeError: The metrics hold no validation.
    """
    validation, training = {}, {}
    for step, metrics in read_metrics(run).items():
        for key, value in metrics.items():
            if key.startswith("val-core/") and "/reward/mean@" in key:
                validation[step] = float(value)
        if "critic/score/mean" in metrics:
            training[step] = float(metrics["critic/score/mean"])
    if not validation:
        raise RuntimeError(f"{run} holds no validation metrics: set trainer.test_freq.")
    return Curve(validation, training)


def print_table(curves: dict[str, Curve], console: Console) -> None:
    """Best-of-set reward at start, midway and end, and how soon GRPO's end is reached."""
    table = Table(title="Best-of-set reward on held-out prompts")
    for heading in ("method", "start", "midway", "end", "steps to reach GRPO's final value"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    goal = list(curves["grpo"].validation.values())[-1]
    for method, curve in curves.items():
        values = list(curve.validation.values())
        reached = curve.first_step_at(goal)
        table.add_row(
            method,
            f"{values[0]:.3f}",
            f"{curve.midway:.3f}",
            f"{values[-1]:.3f}",
            "not reached" if reached is None else str(reached),
        )
    console.print(table)


def plot_curves(curves: dict[str, Curve], path: Path) -> None:
    """Draw validation (lines) and training (faint) curves into a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for colour, (method, curve) in zip(("C0", "C1", "C2", "C3"), curves.items(), strict=False):
        axes.plot(
            list(curve.training), list(curve.training.values()), color=colour, alpha=0.25, lw=1
        )
        axes.plot(
            list(curve.validation),
            list(curve.validation.values()),
            color=colour,
            marker="o",
            ms=4,
            label=method,
        )
    axes.set_xlabel("training step")
    axes.set_ylabel("best-of-set reward (stars)")
    axes.grid(alpha=0.3)
    axes.legend(title="held-out viewers (faint: training rollouts)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
