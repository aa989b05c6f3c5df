"""What a run's responses consist of: distinct sets, repeats, and the candidates named most."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.report.rollouts import read_rollouts, rollout_files
from shape_grpo.candidates import parse_candidates

NAMED = 4
"""Candidates that a row names."""


def print_sets(run: Path, console: Console) -> None:
    """A row for each step that has rollouts.

    Raises:
        FileNotFoundError: There are none.
    """
    files = rollout_files(run)
    if not files:
        raise FileNotFoundError(f"{run / 'rollouts'} holds no STEP.jsonl")
    table = Table(title=f"Responses of {run}")
    for heading in ("step", "responses", "reward", "distinct sets", "repeats"):
        table.add_column(heading, justify="right")
    table.add_column("in most responses")
    for step, file in files.items():
        rollouts = read_rollouts(file)
        candidates = [[c.text for c in parse_candidates(r["output"])] for r in rollouts]
        named = Counter(text for of_response in candidates for text in set(of_response))
        count = sum(map(len, candidates))
        distinct = sum(named.values())
        most = sorted(named.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
        table.add_row(
            str(step),
            str(len(rollouts)),
            f"{fmean(rollout['score'] for rollout in rollouts):.3f}",
            str(len(set(map(frozenset, candidates)))),
            f"{1 - distinct / max(count, 1):.0%}",
            "; ".join(f"{text} {times}" for text, times in most),
        )
    console.print(table)
