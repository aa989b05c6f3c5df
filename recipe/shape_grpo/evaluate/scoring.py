"""Scores of answers to held-out prompts.

Rewards come from the task's reward function, candidate by candidate, under the rules of training.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import comb
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipe.shape_grpo.evaluate.sampling import Answer
from recipe.shape_grpo.tasks.prepared_task import PreparedTask
from shape_grpo.advantage import CandidateRecord, stack_rewards
from shape_grpo.candidates import Candidate, CandidateRules, CandidateSet, comparable_text
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import ErrorBudget, candidate_arguments

Measures = dict[str, NDArray[np.float64]]
"""Name to one value per prompt, the mean over its answers."""

SET = "the set's reward"


def best_of(values: Sequence[float], k: int) -> float:
    """Return the mean best of ``k`` values drawn without replacement; of k or fewer, the best.

    The i-th smallest of n is the best of C(i - 1, k - 1) of the C(n, k) draws. For values 0 and
    1 this is the unbiased pass@k of Chen et al. (2021, arXiv 2107.03374): 1 - C(n - c, k) /
    C(n, k), with c ones.
    """
    count = len(values)
    if count <= k:
        return max(values)
    draws = (comb(place, k - 1) * value for place, value in enumerate(sorted(values)))
    return sum(draws) / comb(count, k)


@dataclass(frozen=True)
class Scored:
    """Scored sets of candidates.

    Attributes:
        records: Records of each prompt's sets.
        options: Configuration that a set is scored by.
        size: K, the number of candidates that the prompts ask for.
    """

    records: list[list[CandidateRecord]]
    options: ShapeGRPOConfig
    size: int

    def measures(self) -> Measures:
        """Return the sets' rewards, and counts of their candidates."""
        rows: dict[str, list[list[float]]] = {}
        for records in self.records:
            for name, values in self._measures_of_prompt(records).items():
                rows.setdefault(name, []).append(values)
        return {name: np.array([*map(fmean, prompts)]) for name, prompts in rows.items()}

    def _measures_of_prompt(self, records: list[CandidateRecord]) -> dict[str, list[float]]:
        numbers = [self._numbers(record) for record in records]
        found: dict[str, list[float]] = {SET: [self.options.score(record) for record in records]}
        for k in range(1, self.size + 1):
            found[f"best of {k}"] = [best_of(values, k) for values in numbers]
        found["candidates"] = [float(len(record.rewards)) for record in records]
        found["distinct candidates"] = [float(record.distinct or 0) for record in records]
        found["without candidates"] = [float(not record.rewards) for record in records]
        found["reward errors"] = [float(record.num_errors) for record in records]
        return found

    def _numbers(self, record: CandidateRecord) -> list[float]:
        """Return one number per candidate; the floor for an empty set."""
        known = record.known_rewards
        if not known:
            return [self.options.score(record)]
        utility = self.options.method.utility
        stacked = stack_rewards([known], vectors=utility.takes_vectors)
        numbers: list[float] = utility.ranking(stacked)[0].tolist()
        return numbers


def score_answers(
    task: PreparedTask, rows: Sequence[Mapping[str, Any]], answers: Sequence[Sequence[Answer]]
) -> Scored:
    """Score the candidates of answers as training does.

    Args:
        task: Task with the reward function.
        rows: The prompts, in verl's columns.
        answers: Answers to each prompt.

    Raises:
        RuntimeError: More rewards failed than ``algorithm.shape_grpo.max_error_share`` allows.
    """
    return _score(task, rows, [[answer.found for answer in samples] for samples in answers])


def score_fixed_set(
    task: PreparedTask, rows: Sequence[Mapping[str, Any]], candidates: Sequence[str]
) -> Scored:
    """Score one set as the answer to every prompt.

    Args:
        task: As in `score_answers`.
        rows: As in `score_answers`.
        candidates: Texts of the set.

    Raises:
        RuntimeError: As in `score_answers`.
    """
    written = [Candidate(text, 0, len(text)) for text in candidates]
    spans = [(0, 0)] * len(written)
    fixed = CandidateSet.from_candidates(written, spans, CandidateRules(max_candidates=None))
    return _score(task, rows, [[fixed]] * len(rows))


def most_frequent(answers: Sequence[Sequence[Answer]], count: int) -> list[str]:
    """Return the candidates in most answers, the most frequent first.

    Spellings that differ in case or white space count as one candidate, as in training, and the
    most frequent one is returned.
    """
    named: Counter[str] = Counter()
    spellings: dict[str, Counter[str]] = {}
    for answer in (answer for samples in answers for answer in samples):
        texts = [text.strip() for text in answer.found.texts if text is not None]
        named.update({comparable_text(text) for text in texts})
        for text in texts:
            spellings.setdefault(comparable_text(text), Counter())[text] += 1
    ranked = sorted(named, key=lambda name: (-named[name], name))[:count]
    return [spellings[name].most_common(1)[0][0] for name in ranked]


def _score(
    task: PreparedTask, rows: Sequence[Mapping[str, Any]], sets: Sequence[Sequence[CandidateSet]]
) -> Scored:
    options = task.reward_function.config
    records = asyncio.run(_ask(task, rows, sets))
    flat = [record for prompt in records for record in prompt]
    task.reward_function.floor.settle(flat)
    ErrorBudget(options.allowed_error_share, len(flat)).spend(flat, "of the answers")
    return Scored(records, options, task.config.dataset.candidates)


async def _ask(
    task: PreparedTask, rows: Sequence[Mapping[str, Any]], sets: Sequence[Sequence[CandidateSet]]
) -> list[list[CandidateRecord]]:
    async def records(row: Mapping[str, Any], answers: Sequence[CandidateSet]) -> Any:
        arguments = partial(candidate_arguments, row)
        scored = (task.reward_function.score_set(found, arguments) for found in answers)
        return [each.record for each in await asyncio.gather(*scored)]

    pairs = zip(rows, sets, strict=True)
    return list(await asyncio.gather(*(records(*pair) for pair in pairs)))
