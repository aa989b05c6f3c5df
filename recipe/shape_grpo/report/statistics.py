"""Estimates over seeds, by scipy and rliable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, mannwhitneyu

LEVEL = 0.95
RESAMPLES = 10_000
RESAMPLES_OF_A_BAND = 1_000
RESAMPLES_OVER_TASKS = 2_000

ONE_SEED = "one seed: an anecdote"


@dataclass(frozen=True)
class Estimate:
    """A statistic of one value a seed.

    Attributes:
        value: The statistic.
        low: Lower end of its 95% interval; None with one seed.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, form: str = ".3f") -> str:
        """As in ``0.512 [0.490, 0.534]``; ``form`` is of each number."""
        if self.low is None:
            return f"{self.value:{form}} ({ONE_SEED})"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def mean_over_seeds(values: ArrayLike) -> Estimate:
    """The mean of one value a seed, with its percentile bootstrap interval."""
    sample = np.asarray(values, dtype=float)
    if len(sample) == 1:
        return Estimate(float(sample[0]))
    return mean_over_prompts(sample)


def mean_over_prompts(values: NDArray[np.float64]) -> Estimate:
    """The mean of one value a prompt, two or more, with its percentile bootstrap interval."""
    low, high = _interval((values,), np.mean, RESAMPLES)
    return Estimate(float(values.mean()), float(low), float(high))


def band(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95% intervals of the means of (steps, seeds): lower and upper ends (steps,)."""
    return _interval((values,), np.mean, RESAMPLES_OF_A_BAND)


def paired_difference(ours: pd.DataFrame, theirs: pd.DataFrame, column: str) -> Estimate | None:
    """Mean difference of a column over the seeds that both have; None if there is none."""
    both = ours.dropna(subset="seed").merge(theirs, on="seed", suffixes=("", "_theirs"))
    return mean_over_seeds(both[column] - both[f"{column}_theirs"]) if len(both) else None


def over_resampled_seeds(statistic: Callable[[NDArray[np.int64]], Any], seeds: int) -> Estimate:
    """A statistic of all seeds together, with its percentile bootstrap interval.

    Args:
        statistic: From places of seeds (..., S) to values (...).
        seeds: How many there are.
    """
    places = np.arange(seeds)
    value = float(statistic(places))
    if seeds == 1:
        return Estimate(value)
    low, high = _interval(
        (places.astype(float),),
        lambda sample, axis: statistic(sample.astype(np.int64)),
        RESAMPLES_OVER_TASKS,
    )
    return Estimate(value, float(low), float(high))


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> Estimate:
    """P(a run of ours is above a run of theirs), ties counted half."""
    first, second = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    value = float(_share_of_pairs(first, second))
    if min(len(first), len(second)) == 1:
        return Estimate(value)
    low, high = _interval((first, second), _share_of_pairs, RESAMPLES_OVER_TASKS)
    return Estimate(value, float(low), float(high))


def _share_of_pairs(x: NDArray[np.float64], y: NDArray[np.float64], axis: int = -1) -> Any:
    """The Mann-Whitney U over the number of pairs: `rliable.metrics.probability_of_improvement`,
    which takes one sample at a time and is too slow to be resampled.
    """
    # The method only concerns the p-value, which is not read.
    u = mannwhitneyu(x, y, axis=axis, method="asymptotic").statistic
    return u / (x.shape[axis] * y.shape[axis])


def _interval(samples: tuple[NDArray[np.float64], ...], statistic: Any, resamples: int) -> Any:
    # "percentile", as in rliable: the corrected forms are undefined for two or three seeds.
    interval = bootstrap(
        samples,
        statistic,
        n_resamples=resamples,
        batch=100,
        vectorized=True,
        axis=-1,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return interval.low, interval.high


def interquartile_means(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Estimate]:
    """Rliable's interquartile mean over tasks and seeds, by stratified bootstrap.

    Args:
        scores: Method to (seeds, tasks).
    """
    from rliable import metrics

    return _over_tasks(dict(scores), lambda values: np.array([metrics.aggregate_iqm(values)]))


def improvements_over_tasks(
    pairs: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> dict[str, Estimate]:
    """Rliable's probability of improvement, averaged over tasks, by stratified bootstrap.

    Args:
        pairs: Method to its scores and the baseline's, (seeds, tasks) each.
    """
    return _over_tasks(dict(pairs), lambda x, y: np.array([_share_of_pairs(x, y, axis=0).mean()]))


def _over_tasks(scores: dict[str, Any], statistic: Any) -> dict[str, Estimate]:
    from rliable import library

    with _seeded():
        points, intervals = library.get_interval_estimates(
            scores, statistic, reps=RESAMPLES_OVER_TASKS, confidence_interval_size=LEVEL
        )
    return {
        name: Estimate(float(points[name][0]), *map(float, intervals[name][:, 0]))
        for name in scores
    }


@contextmanager
def _seeded() -> Iterator[None]:
    """Rliable draws from numpy's global generator, whatever `random_state` it is given."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
