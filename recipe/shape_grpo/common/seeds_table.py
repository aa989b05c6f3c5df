"""Table of the rewards of runs with several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

from rich.console import Console
from rich.table import Table


def print_seeds_table(
    name: str, runs: Sequence[Mapping[int, Mapping[str, float]]], console: Console
) -> None:
    """Print rewards before, during and after training, and entropy and distinct candidates.

    Args:
        name: The task and the method.
        runs: The metrics of each seed's run, by step. Step 0 has the held-out reward alone.
        console: Console for the table.
    """
    table = Table(title=f"{name}, {len(runs)} seeds")
    for heading in ("", "mean", "standard error"):
        table.add_column(heading, justify="right" if heading else "left")
    last = max(runs[0])
    (held_out,) = runs[0][0]
    score, distinct = "critic/score/mean", "shape_grpo/distinct_candidates"
    rows = {
        "held-out reward before training": [run[0][held_out] for run in runs],
        "training reward, all updates": [
            fmean(run[step][score] for step in range(1, last + 1)) for run in runs
        ],
        "held-out reward after training": [run[last][held_out] for run in runs],
        "entropy of a token, last update": [run[last]["actor/entropy"] for run in runs],
        "distinct candidates, last update": [run[last][distinct] for run in runs],
    }
    for row, values in rows.items():
        error = f"{stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else "-"
        table.add_row(row, f"{fmean(values):.3f}", error)
    console.print(table)
