"""TRL's reward functions, called with candidates for completions."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from shape_grpo.advantage import Reward
from shape_grpo.candidates import CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.rewards import Failure, FailureLog

Row = dict[str, Any]
"""One candidate's entry in each list of arguments, by argument name."""

RewardFunction = Callable[..., Any]


def candidate_rows(
    answer: CandidateSet,
    example: Mapping[str, Any],
    prompt: Any,
    completion: Any,
    response_ids: list[int],
) -> list[Row | None]:
    """Return the arguments of reward functions for each candidate; None: they are not asked.

    Args:
        answer: Candidates of a response.
        example: Row of the dataset.
        prompt: The prompt as TRL passes it on.
        completion: The response as TRL has it: text, or a list of one message.
        response_ids: Its token ids.
    """
    columns = {
        name: value
        for name, value in example.items()
        if name not in ("prompt", "completion", "completion_ids")
    }

    def row(index: int, text: str) -> Row:
        start, end = answer.spans[index]
        message = [{"role": "assistant", "content": text}]
        return {
            **columns,
            "prompts": prompt,
            "completions": text if isinstance(completion, str) else message,
            "completion_ids": response_ids[start:end],
            "candidate_index": index,
            "num_candidates": len(answer.texts),
        }

    return [None if text is None else row(index, text) for index, text in enumerate(answer.texts)]


class CandidateRewards:
    """Scores candidates by the weighted sum of reward functions.

    A function that fails on many candidates is called again on each half of them, down to the one
    that it fails on: only that one has no reward. As in TRL, None means that the function does not
    apply to a candidate; where no function applies, there is no reward either.

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
        self, answers: Sequence[Sequence[Row | None]], **shared: Any
    ) -> list[list[Reward | Failure]]:
        """Return one reward per candidate, in one list per response.

        Args:
            answers: Rows of each response; None stands for the floor reward.
            **shared: Arguments that are no lists with one entry per candidate (``trainer_state``).
        """
        rows = [row for answer in answers for row in answer if row is not None]
        columns = [self._call(function, rows, shared) for function in self.functions]
        sums = (
            self._weighted_sum(values, str(row["completions"]))
            for row, *values in zip(rows, *columns, strict=True)
        )
        return [
            [self.options.floor if row is None else next(sums) for row in answer]
            for answer in answers
        ]

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

    def _weighted_sum(self, values: Sequence[Any], text: str) -> Reward | Failure:
        for value in values:
            if isinstance(value, Failure):
                return value
        try:
            terms = [
                weight * torch.as_tensor(value, dtype=torch.float64, device="cpu")
                for weight, value in zip(self.weights, values, strict=True)
                if value is not None
            ]
            if not terms:
                raise ValueError(f"No reward function returned a number for {text[:200]!r}.")
            return self.options.checked_reward(sum(terms), text)
        except Exception as error:
            return self.failures.failure(error)
