"""The candidates in a run's responses: distinct sets, repeats, and the most frequent ones.

If rewards are 0 or 1, also the number of right candidates.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.run_folder import BEGUN
from recipe.shape_grpo.report.results import credit_settings
from recipe.shape_grpo.report.rollouts import RECORD, read_rollouts, rollout_files
from shape_grpo.candidates import CandidateRules, check_candidates, comparable_text

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
    rules = candidate_rules(run)
    table = Table(title=f"Responses of {run}")
    headings = ["step", "responses", "reward", "distinct sets", "repeats"]
    for heading in [*headings, *(RIGHT if pass_or_fail else ())]:
        table.add_column(heading, justify="right")
    table.add_column("in most responses")
    for step, rollouts in steps.items():
        found = [written_texts(rollout, rules) for rollout in rollouts]
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
            *(count_right(rollouts, rules) if pass_or_fail else ()),
            "; ".join(f"{first_spelling[name]} {times}" for name, times in most),
        )
    console.print(table)


def known_rewards(rollouts: list[dict[str, Any]]) -> list[Any]:
    """Return all candidates' rewards, without those that failed."""
    rewards = [reward for rollout in rollouts for reward in rollout[RECORD]["rewards"]]
    return [reward for reward in rewards if reward is not None]


def candidate_rules(run: Path) -> CandidateRules:
    """Return the run's rules for candidates, with defaults for rules that it does not record."""
    settings = credit_settings(read_stamp(run) or read_stamp(run, BEGUN) or {})
    names = [field.name for field in fields(CandidateRules)]
    return CandidateRules(**{name: settings[name] for name in names if name in settings})


def written_texts(rollout: dict[str, Any], rules: CandidateRules) -> list[str]:
    """Return the texts of a response's candidates, with the repeats that the rules may drop."""
    checked = check_candidates(rollout["output"], rules, cut=False)
    return [c.candidate.text for c in checked if c.counts or c.problem == "duplicate"]


def count_right(rollouts: list[dict[str, Any]], rules: CandidateRules) -> tuple[str, str, str]:
    """Return the cells of the columns `RIGHT` for a step whose rewards are all 0 or 1.

    Texts are unknown ("-") if the rules find a different number of candidates than the run.
    """
    rewards = known_rewards(rollouts)
    share = f"{sum(rewards) / max(len(rewards), 1):.0%}"
    found = [right_texts(rollout, rules) for rollout in rollouts]
    right = [texts for texts in found if texts is not None]
    if len(right) < len(found):
        return share, "-", "-"
    return share, f"{fmean(map(len, right)):.2f}", str(len(set().union(*right)))


def right_texts(rollout: dict[str, Any], rules: CandidateRules) -> set[str] | None:
    """Return the distinct texts whose reward is 1; None if the record has other candidates.

    In a response that was cut off, the last item of a numbered list does not count. The record does
    not say which were cut off, so both are tried.
    """
    rewards = rollout[RECORD]["rewards"]
    for cut in (False, True):
        checked = check_candidates(rollout["output"], rules, cut=cut)
        texts = [comparable_text(c.candidate.text) for c in checked if c.counts]
        if len(texts) == len(rewards):
            return {text for text, reward in zip(texts, rewards, strict=True) if reward == 1}
    return None
