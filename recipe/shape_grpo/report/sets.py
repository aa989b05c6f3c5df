"""What a run's responses consist of: distinct sets, repeats, and the candidates named most.

Where each candidate is right or wrong, also how many are right.
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
from recipe.shape_grpo.report.results import credit_settings
from recipe.shape_grpo.report.rollouts import RECORD, read_rollouts, rollout_files
from recipe.shape_grpo.report.segments import find_segments
from shape_grpo.candidates import CandidateRules, parse_candidates

NAMED = 4
"""Candidates that a row names."""

RIGHT = ("right", "distinct right", "in all")


def print_sets(run: Path, console: Console) -> None:
    """A row for each step that has rollouts.

    Where all rewards are 0 or 1 it says how many candidates are right: their share, and the
    different texts among them, in a response on average and in all the step's responses.

    Raises:
        FileNotFoundError: There are none.
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
            *(count_right(rollouts, rules) if pass_or_fail else ()),
            "; ".join(f"{text} {times}" for text, times in most),
        )
    console.print(table)


def known_rewards(rollouts: list[dict[str, Any]]) -> list[Any]:
    """The rewards of all candidates of the responses, less those that could not be had."""
    rewards = [reward for rollout in rollouts for reward in rollout[RECORD]["rewards"]]
    return [reward for reward in rewards if reward is not None]


def candidate_rules(run: Path) -> CandidateRules:
    """By which rules the run found its candidates."""
    settings = credit_settings(read_stamp(run) or {})
    names = [field.name for field in fields(CandidateRules)]
    return CandidateRules(**{name: settings[name] for name in names if name in settings})


def count_right(rollouts: list[dict[str, Any]], rules: CandidateRules) -> tuple[str, str, str]:
    """What the columns `RIGHT` say of a step's responses, all of whose rewards are 0 or 1.

    Which texts are right is not known ("-") where these rules find other candidates than the run
    did: until a run is whole, its own are not written down.
    """
    rewards = known_rewards(rollouts)
    share = f"{sum(rewards) / max(len(rewards), 1):.0%}"
    found = [right_candidates(rollout, rules) for rollout in rollouts]
    right = [texts for texts in found if texts is not None]
    if len(right) < len(found):
        return share, "-", "-"
    return share, f"{fmean(map(len, right)):.2f}", str(len(set().union(*right)))


def right_candidates(rollout: dict[str, Any], rules: CandidateRules) -> set[str] | None:
    """The texts of a response's candidates whose reward is 1; None if the record has others."""
    record = rollout[RECORD]
    spans = list(zip(record["starts"], record["ends"], strict=True))
    segments, difference = find_segments(rollout["output"], spans, rules, tokenizer=None)
    if difference:
        return None
    return {
        segment.text
        for segment in segments
        if segment.candidate is not None and record["rewards"][segment.candidate] == 1
    }
