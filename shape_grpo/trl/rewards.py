"""TRL's reward functions, called with candidates for completions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import (
    Failure,
    FailureLog,
    Scored,
    ScoredSet,
    check_details,
    indices_to_score,
    more_to_score,
)

Row = dict[str, Any]
"""One candidate's entry in each list of arguments, by argument name."""

RewardFunction = Callable[..., Any]

Example = tuple[Mapping[str, Any], Any, Any, list[int]]
"""A response as TRL has it: row of the dataset, prompt, completion, and token ids. The completion
is text, or a list of messages."""


def candidate_row(found: CandidateSet, index: int, example: Example) -> Row:
    """Return the arguments of reward functions for a candidate.

    Args:
        found: Candidates of the response.
        index: Index of the candidate in ``found.checked``.
        example: The response.
    """
    columns, prompt, completion, ids = example
    start, end = found.checked[index].span
    text = found.checked[index].candidate.text
    place, count = found.place(index)
    message = [{"role": "assistant", "content": text}]
    return {
        **{
            name: value
            for name, value in columns.items()
            if name not in ("prompt", "completion", "completion_ids")
        },
        "prompts": prompt,
        "completions": text if isinstance(completion, str) else message,
        "completion_ids": ids[start:end],
        "candidate_index": place,
        "num_candidates": count,
    }


class CandidateRewards:
    """Scores candidates by the weighted sum of reward functions.

    A function that fails on many candidates is called again on each half of them, down to the one
    that it fails on: only that one has no reward. As in TRL, None means that the function does not
    apply to a candidate; where no function applies, there is no reward either. Instead of a number
    a function may return a dict of ``score`` and ``identity``: the rule ``duplicate`` goes by it.

    Args:
        functions: As TRL takes them, sync or async.
        weights: One weight per function.
        options: Which rewards are allowed, and the reward under the rule ``floor``.
        loop: Event loop for async functions; None where there are none.
    """

    def __init__(
        self,
        functions: Sequence[RewardFunction],
        weights: Sequence[float],
        options: ShapeGRPOConfig,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.functions = functions
        self.weights = weights
        self.options = options
        self.loop = loop
        self.failures = FailureLog(options.on_error)

    def __call__(
        self,
        found: Sequence[CandidateSet | Exception],
        examples: Sequence[Example],
        draw: str = "",
        **shared: Any,
    ) -> list[CandidateRecord]:
        """Return one record per response.

        Args:
            found: Candidates of each response, or the error of a format that failed on it.
            examples: The responses.
            draw: Names run and step, for utilities that draw at random.
            **shared: Arguments that are no lists with one entry per candidate (``trainer_state``).
        """
        sets = [CandidateSet() if isinstance(each, Exception) else each for each in found]
        scored = self._score(sets, [indices_to_score(each) for each in sets], examples, shared)
        more = [more_to_score(*each) for each in zip(sets, scored, strict=True)]
        if any(more):
            further = self._score(sets, more, examples, shared)
            scored = [{**first, **rest} for first, rest in zip(scored, further, strict=True)]
        return [
            self.failures.unread(answer)
            if isinstance(answer, Exception)
            else ScoredSet.settle(
                answer, of_answer, self.options, self.failures, f"{draw} {prompt}"
            ).record
            for answer, of_answer, (_, prompt, *_) in zip(found, scored, examples, strict=True)
        ]

    def _score(
        self,
        sets: Sequence[CandidateSet],
        indices: Sequence[Sequence[int]],
        examples: Sequence[Example],
        shared: Mapping[str, Any],
    ) -> list[dict[int, Scored]]:
        """Score the candidates of each response at these indices of its ``checked``."""
        rows = [
            candidate_row(found, index, example)
            for found, chosen, example in zip(sets, indices, examples, strict=True)
            for index in chosen
        ]
        columns = [self._call(function, rows, shared) for function in self.functions]
        results = (
            self._combine(values, str(row["completions"]))
            for row, *values in zip(rows, *columns, strict=True)
        )
        return [{index: next(results) for index in chosen} for chosen in indices]

    def _call(
        self, function: RewardFunction, rows: Sequence[Row], shared: Mapping[str, Any]
    ) -> list[Any]:
        """Return the function's result for each row, or a `Failure`."""
        if not rows:
            return []
        try:
            results = function(**{name: [row[name] for row in rows] for name in rows[0]}, **shared)
            if inspect.iscoroutine(results):
                assert self.loop is not None
                results = asyncio.run_coroutine_threadsafe(results, self.loop).result()
            results = list(results)
            if len(results) != len(rows):
                raise ValueError(
                    f"The reward function returned {len(results)} rewards for {len(rows)} "
                    "candidates; return one per candidate, or None where it does not apply."
                )
            return results
        except Exception as error:
            if len(rows) == 1:
                return [self.failures.failure(error, function)]
        middle = len(rows) // 2
        return [
            *self._call(function, rows[:middle], shared),
            *self._call(function, rows[middle:], shared),
        ]

    def _combine(self, values: Sequence[Any], text: str) -> Scored:
        """Return the weighted sum of the functions' results for a candidate."""
        failure = next((value for value in values if isinstance(value, Failure)), None)
        if failure is not None:
            return Scored(failure)
        dicts = [value for value in values if isinstance(value, Mapping)]
        try:
            numbers = [value["score"] if isinstance(value, Mapping) else value for value in values]
            terms = [
                weight * torch.as_tensor(number, dtype=torch.float64, device="cpu")
                for weight, number in zip(self.weights, numbers, strict=True)
                if number is not None
            ]
            if not terms:
                raise ValueError(f"No reward function returned a number for {text[:200]!r}.")
            details = {name: value for each in dicts for name, value in each.items()}
            check_details(details)
            return Scored(self.options.checked_reward(sum(terms), text), details)
        except Exception as error:
            return Scored(self.failures.failure(error))
