"""Speed and steadiness: the steps to GRPO's final reward, and the spread on the way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recipe.shape_grpo.report.results import BASELINE, WINDOW, Results
from recipe.shape_grpo.report.statistics import mean_over_seeds, paired_difference

CAPTION = (
    "Over training: the mean of a run's held-out rewards after step 0, over the same seeds. The "
    f"other columns use the training reward, averaged over {WINDOW} steps. Steps: median over runs "
    f"of the first step at {BASELINE}'s last reward (median of its seeds). Spread: standard "
    "deviation over seeds, mean over steps. Gradient norm: standard deviation over mean of a run's "
    "steps, mean over seeds."
)


def steps_to_baseline(results: Results, setup: str, method: str) -> NDArray[np.float64]:
    """Return each run's first step at GRPO's final training reward; infinite if not reached.

    Empty if there is no GRPO, or no training curve of `WINDOW` steps.
    """
    curves = results.steps.dropna(subset="training_mean").groupby("run")
    final = curves["training_mean"].last()
    baseline = results.of(setup, BASELINE).index.intersection(final.index)
    runs = results.of(setup, method).index.intersection(final.index)
    if baseline.empty or runs.empty:
        return np.array([])
    level = final.loc[baseline].median()
    steps = []
    for run in runs:
        curve = curves.get_group(run)
        reached = curve.loc[curve["training_mean"] >= level, "step"]
        steps.append(reached.min() if len(reached) else np.inf)
    return np.array(steps, dtype=float)


def median_step(steps: NDArray[np.float64]) -> str:
    """Return the median of these steps as text."""
    if not len(steps):
        return "-"
    median = np.median(steps)
    return f"{median:.0f}" if np.isfinite(median) else "not reached"


def convergence_rows(results: Results) -> list[dict[str, str]]:
    """Return one row per setup and method that has training curves."""
    rows = []
    for setup, method, runs in results.cells():
        curves = results.curves(setup, method, "training_mean")
        if curves.empty:
            continue
        reached = steps_to_baseline(results, setup, method)
        steps = median_step(reached)
        if len(reached):
            steps += f" ({np.isfinite(reached).sum()} of {len(reached)} runs)"
        ahead = None
        if method != BASELINE:
            ahead = paired_difference(runs, results.of(setup, BASELINE), "over_training")
        norms = results.steps_of(runs).groupby("run")["gradient_norm"]
        variation = (norms.std() / norms.mean()).dropna()
        several = curves.shape[1] > 1
        rows.append(
            {
                "task": setup,
                "method": method,
                f"over training, minus {BASELINE}": ahead.text("+.3f") if ahead else "-",
                f"steps to {BASELINE}'s final reward": steps,
                "spread over seeds": f"{curves.std(axis=1).mean():.3f}" if several else "-",
                "variation of the gradient norm": mean_over_seeds(variation).text(".2f")
                if len(variation)
                else "-",
            }
        )
    return rows
