"""The candidates in a run's responses: distinct sets, repeats, and the most frequent ones.

If rewards are 0 or 1, also the number of right candidates.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.report.rollouts import RECORD, read_rollouts, rollout_files
from shape_grpo.candidates import comparable_text

NAMED = 4
"""Number of frequent candidates named per row."""

RIGHT = ("right", "distinct right", "in all")


def print_sets(run: Path, console: Console) -> None:
    """Print one row per step that has rollouts.

    Texts are compared as training compares them: white space and case do not matter. Where all
    rewards are 0 or 1, three columns say how many candidates are right: their share, and the
    distinct texts among them, per response and in all responses of the step.

    Raises:
        FileNotFoundError: The run has no rollouts.
    """
    files = rollout_files(run)
    if not files:
        raise FileNotFoundError(f"{run / 'rollouts'} holds no STEP.jsonl")
    steps = {step: read_rollouts(file) for step, file in files.items()}
    pass_or_fail = all(
        reward in (0, 1) for rollouts in steps.values() for reward in known_rewards(rollouts)
    )
    table = Table(title=f"Responses of {run}")
    headings = ["step", "responses", "reward", "distinct sets", "repeats"]
    for heading in [*headings, *(RIGHT if pass_or_fail else ())]:
        table.add_column(heading, justify="right")
    table.add_column("in most responses")
    for step, rollouts in steps.items():
        found = [written_texts(rollout) for rollout in rollouts]
        texts = [text for response in found for text in response]
        first_spelling = {comparable_text(text): text for text in reversed(texts)}
        sets = [frozenset(map(comparable_text, response)) for response in found]
        named = Counter(name for response in sets for name in response)
        most = sorted(named.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
        table.add_row(
            str(step),
            str(len(rollouts)),
            f"{fmean(rollout['score'] for rollout in rollouts):.3f}",
            str(len(set(sets))),
            f"{1 - sum(named.values()) / max(len(texts), 1):.0%}",
            *(count_right(rollouts) if pass_or_fail else ()),
            "; ".join(f"{first_spelling[name]} {times}" for name, times in most),
        )
    console.print(table)


def known_rewards(rollouts: list[dict[str, Any]]) -> list[Any]:
    """Return all candidates' rewards, without those that failed."""
    rewards = [reward for rollout in rollouts for reward in rollout[RECORD]["rewards"]]
    return [reward for reward in rewards if reward is not None]


def written_texts(rollout: dict[str, Any]) -> list[str]:
    """Return the texts of a response's candidates."""
    texts: list[str] = rollout[RECORD].get("texts", [])
    return texts


def count_right(rollouts: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Return the cells of the columns `RIGHT` for a step whose rewards are all 0 or 1.

    Texts are unknown ("-") in rollouts of a version that did not record them.
    """
    rewards = known_rewards(rollouts)
    share = f"{sum(rewards) / max(len(rewards), 1):.0%}"
    found = [right_texts(rollout) for rollout in rollouts]
    right = [texts for texts in found if texts is not None]
    if len(right) < len(found):
        return share, "-", "-"
    return share, f"{fmean(map(len, right)):.2f}", str(len(set().union(*right)))


def right_texts(rollout: dict[str, Any]) -> set[str] | None:
    """Return the distinct texts whose reward is 1; None if the record holds no texts."""
    rewards, texts = rollout[RECORD]["rewards"], written_texts(rollout)
    if len(texts) != len(rewards):
        return None
    pairs = zip(map(comparable_text, texts), rewards, strict=True)
    return {text for text, reward in pairs if reward == 1}
