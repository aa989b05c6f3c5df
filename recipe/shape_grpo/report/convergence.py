"""How soon each method earns what GRPO earns in the end, and how steadily it gets there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recipe.shape_grpo.report.curves import WINDOW
from recipe.shape_grpo.report.results import BASELINE, Results
from recipe.shape_grpo.report.statistics import (
    Estimate,
    mean_over_seeds,
    over_resampled_seeds,
    paired_difference,
)


def steps_to_baseline(results: Results, setup: str, method: str) -> NDArray[np.float64]:
    """For each run, the first step at GRPO's final training reward; infinite where not reached.

    Empty where there is no GRPO, or no training curve of `WINDOW` steps.
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


def share_of_baselines_steps(results: Results, setup: str, method: str) -> Estimate | None:
    """Steps of a method to GRPO's final training reward, over GRPO's own steps to it.

    Of the medians over the seeds that both have, which one run that collapses does not move; the
    interval is over resampled seeds. A curve that does not reach it counts with its last step.

    Returns:
        None where there is no GRPO, or no seed in common.
    """
    ours, theirs = (_training_curves(results, setup, name) for name in (method, BASELINE))
    seeds = ours.columns.intersection(theirs.columns)
    steps = ours.index.intersection(theirs.index)
    if seeds.empty or steps.empty:
        return None
    ours, theirs = (curves.loc[steps, seeds].to_numpy().T for curves in (ours, theirs))

    def first_step(curve: NDArray[np.float64], level: NDArray[np.float64]) -> NDArray[np.float64]:
        reached = curve >= level[..., None]
        reached[..., -1] = True
        return np.asarray(steps, dtype=float)[reached.argmax(-1)]

    def share(sample: NDArray[np.int64]) -> Any:
        curve = np.median(ours[sample], axis=-2)
        baseline = np.median(theirs[sample], axis=-2)
        level = baseline[..., -1]
        return first_step(curve, level) / first_step(baseline, level)

    return over_resampled_seeds(share, len(seeds))


def convergence_rows(results: Results) -> list[dict[str, str]]:
    """A row for each setup and method that has training curves."""
    rows = []
    for setup, method, runs in results.cells():
        reached = steps_to_baseline(results, setup, method)
        curves = _training_curves(results, setup, method)
        if curves.empty:
            continue
        share = share_of_baselines_steps(results, setup, method)
        norms = results.steps[results.steps["run"].isin(runs.index)].groupby("run")["gradient_norm"]
        variation = (norms.std() / norms.mean()).dropna()
        ahead = None
        if method != BASELINE:
            ahead = paired_difference(runs, results.of(setup, BASELINE), "over_training")
        median = np.median(reached) if len(reached) else np.inf
        soon = f"{median:.0f}" if np.isfinite(median) else "not reached"
        rows.append(
            {
                "task": setup,
                "method": method,
                f"over training, minus {BASELINE}": ahead.text("+.3f") if ahead else "-",
                f"steps to {BASELINE}'s final reward": f"{soon} ({np.isfinite(reached).sum()} of "
                f"{len(reached)} runs)"
                if len(reached)
                else "-",
                f"share of {BASELINE}'s steps": share.text(".2f") if share else "-",
                "spread over seeds": f"{curves.std(axis=1).mean():.3f}"
                if curves.shape[1] > 1
                else "-",
                "variation of the gradient norm": mean_over_seeds(variation).text(".2f")
                if len(variation)
                else "-",
            }
        )
    return rows


CAPTION = (
    "Over training: the mean of a run's held-out rewards after step 0, over the same seeds. The "
    f"others by the training reward, mean of {WINDOW} steps. Steps: median over runs of the first "
    f"step at {BASELINE}'s last reward, median of its seeds. Share: the first step at which the "
    f"median of the method's seeds is there, over that of {BASELINE}'s own; a curve that does not "
    "get there counts with its last step. Spread: the standard deviation over seeds, mean over "
    "steps. Gradient norm: standard deviation over mean of a run's steps, mean over seeds."
)


def _training_curves(results: Results, setup: str, method: str) -> pd.DataFrame:
    """A row a step, a column a seed."""
    steps = results.steps
    of = steps[(steps["setup"] == setup) & (steps["method"] == method)]
    of = of.dropna(subset=["training_mean", "seed"])
    return of.pivot(index="step", columns="seed", values="training_mean").dropna()
