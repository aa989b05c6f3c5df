"""Choice of the learning rate at which each method is compared: its best one."""

from __future__ import annotations

import pandas as pd


def at_best_rates(runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs of each setup and method at its best learning rate.

    The best rate has the highest held-out reward, averaged over training, and over the seeds that
    all rates of the method share, if any. Slow learning and collapses both lower it.

    Args:
        runs: One row per run, with ``setup``, ``method``, ``learning_rate``, ``seed``, ``final``
            and ``over_training``, the mean of the held-out rewards after step 0.

    Returns:
        Those runs, and one row per setup, method and rate: these three, ``seeds`` (their number),
        ``over_training`` and ``final`` (means over all seeds of the rate), ``tried`` (the number of
        rates of the method) and ``best``.
    """
    kept, rows = [], []
    for (setup, method), tried in runs.groupby(["setup", "method"], sort=False):
        rates = {rate: group for rate, group in tried.groupby("learning_rate", dropna=False)}
        shared = set.intersection(*(set(group["seed"]) for group in rates.values()))
        means = {
            rate: (group[group["seed"].isin(shared)] if shared else group)["over_training"].mean()
            for rate, group in rates.items()
        }
        # An unknown rate (NaN or None) is always the only one.
        best = max(means, key=lambda rate: (means[rate], -(rate or 0)))
        kept.append(rates[best])
        rows += [
            {
                "setup": setup,
                "method": method,
                "learning_rate": rate,
                "seeds": len(group),
                "over_training": group["over_training"].mean(),
                "final": group["final"].mean(),
                "tried": len(rates),
                "best": rate is best,
            }
            for rate, group in rates.items()
        ]
    return pd.concat(kept), pd.DataFrame(rows)
