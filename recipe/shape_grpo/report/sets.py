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

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.run_folder import BEGUN
from recipe.shape_grpo.report.results import credit_settings
from recipe.shape_grpo.report.rollouts import RECORD, no_rollouts, read_rollouts, rollout_files
from shape_grpo.candidates import comparable_text

NAMED = 4
"""Number of frequent candidates named per row."""

RIGHT = ("right", "distinct right", "in all")

NO_TEXTS = '"-": these rollouts are of an old version, whose records hold no texts of candidates.'


def print_sets(run: Path, console: Console) -> None:
    """Print one row per step that has rollouts.

    Texts are compared as training compares them: white space and case do not matter. Repeats are
    those that training counted, by text or identity. Where all rewards are 0 or 1, three columns
    say how many candidates are right: their share, and the distinct texts among them, per response
    and in all responses of the step. What needs texts is "-" in a step without them: early versions
    did not record them.

    Raises:
        FileNotFoundError: The run has no rollouts.
    """
    files = rollout_files(run)
    if not files:
        raise FileNotFoundError(no_rollouts(run))
    steps = {step: read_rollouts(file) for step, file in files.items()}
    settings = read_stamp(run) or read_stamp(run, BEGUN) or {}
    drops_repeats = credit_settings(settings).get("duplicate") == "drop"
    pass_or_fail = all(
        reward in (0, 1) for rollouts in steps.values() for reward in known_rewards(rollouts)
    )
    table = Table(title=f"Responses of {run}")
    headings = ["step", "responses", "reward", "distinct sets", "repeats"]
    for heading in [*headings, *(RIGHT if pass_or_fail else ())]:
        table.add_column(heading, justify="right")
    table.add_column("in most responses")
    without_texts = False
    for step, rollouts in steps.items():
        found = [written_texts(rollout) for rollout in rollouts]
        known = [texts for texts in found if texts is not None]
        is_known = len(known) == len(found)
        without_texts |= not is_known
        sets = [frozenset(map(comparable_text, texts)) for texts in known]
        table.add_row(
            str(step),
            str(len(rollouts)),
            f"{fmean(rollout['score'] for rollout in rollouts):.3f}",
            str(len(set(sets))) if is_known else "-",
            share_of_repeats(rollouts, drops_repeats=drops_repeats),
            *(count_right(rollouts) if pass_or_fail else ()),
            most_frequent(known) if is_known else "-",
        )
    console.print(table)
    if without_texts:
        console.print(NO_TEXTS)


def known_rewards(rollouts: list[dict[str, Any]]) -> list[Any]:
    """Return all candidates' rewards, without those that failed."""
    rewards = [reward for rollout in rollouts for reward in rollout[RECORD]["rewards"]]
    return [reward for reward in rewards if reward is not None]


def written_texts(rollout: dict[str, Any]) -> list[str] | None:
    """Return the texts of a response's candidates; None if the record holds none."""
    texts: list[str] = rollout[RECORD].get("texts", [])
    return texts if len(texts) == len(rollout[RECORD]["rewards"]) else None


def share_of_repeats(rollouts: list[dict[str, Any]], *, drops_repeats: bool) -> str:
    """Return the share of repeats among the candidates, those included that training dropped."""
    records = [rollout[RECORD] for rollout in rollouts]
    repeats = sum(record["problem_counts"].get("duplicate", 0) for record in records)
    counted = sum(len(record["rewards"]) for record in records)
    return f"{repeats / max(counted + (repeats if drops_repeats else 0), 1):.0%}"


def most_frequent(responses: list[list[str]]) -> str:
    """Return the texts that most responses name, each with their number."""
    texts = [text for response in responses for text in response if text]
    first_spelling = {comparable_text(text): text for text in reversed(texts)}
    named = Counter(
        name for response in responses for name in set(map(comparable_text, response)) if name
    )
    most = sorted(named.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
    return "; ".join(f"{first_spelling[name]} {times}" for name, times in most)


def count_right(rollouts: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Return the cells of the columns `RIGHT` for a step whose rewards are all 0 or 1."""
    rewards = known_rewards(rollouts)
    share = f"{sum(rewards) / max(len(rewards), 1):.0%}"
    found = [right_texts(rollout) for rollout in rollouts]
    right = [texts for texts in found if texts is not None]
    if len(right) < len(found):
        return share, "-", "-"
    return share, f"{fmean(map(len, right)):.2f}", str(len(set().union(*right)))


def right_texts(rollout: dict[str, Any]) -> set[str] | None:
    """Return the distinct texts whose reward is 1; None if the record holds no texts."""
    texts = written_texts(rollout)
    if texts is None:
        return None
    pairs = zip(map(comparable_text, texts), rollout[RECORD]["rewards"], strict=True)
    return {text for text, reward in pairs if reward == 1}
