"""TRL's reward functions, called with candidates for completions."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cache, partial, wraps
from typing import Any, TypeVar

import torch

from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import CandidateSet
from shape_grpo.config import NO_NUMBERS, ShapeGRPOConfig, check_kind
from shape_grpo.credit import Oracle
from shape_grpo.rewards import (
    BrokenFunction,
    Failure,
    FailureLog,
    Floor,
    RewardCalls,
    RewardFunction,
    Scored,
    ScoredSet,
    background_loop,
    check_details,
    check_text_argument,
    indices_to_score,
    more_to_score,
    no_score,
    read_results,
    text_argument,
    weighted_sum,
)

T = TypeVar("T")

Row = dict[str, Any]
"""One candidate's entry in each list of arguments, by argument name."""

Response = list[Row]
"""The rows of a response's candidates."""

Responses = Sequence[Response]

Outcome = list[Any] | Exception
"""A function's results for the candidates of a response, or what it raised."""

Example = tuple[Mapping[str, Any], Any, Any, list[int]]
"""A response as TRL has it: row of the dataset, prompt, completion, and token ids. The completion
is text, or a list of messages."""

logger = logging.getLogger(__name__)


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


HINT = (
    " None says that the function does not apply to a candidate. A call holds the candidates of "
    "all responses, or of one under per_response=true."
)


class CandidateRewards:
    """Scores candidates by the weighted sum of reward functions.

    A function may compare the candidates of a response, so they are never asked about apart: a
    response that a function fails on alone loses all of them. A function spares the others if it
    returns None or NaN for the one that it cannot score. With ``per_response`` a call holds one
    response, and the calls run concurrently. Without it, a call holds all responses, and after a
    failure the function is called again with each response. If the first three of these calls fail
    alike, it always fails, and no candidate has a reward. Under ``on_error=raise`` it is not called
    again.

    As in TRL, None means that the function does not apply to a candidate; where no function
    applies, there is no reward either. Instead of a number a function may return a dict of
    ``score`` and ``identity``: the rule ``duplicate`` goes by it. Several functions are numbers of
    their names beside the score, for curves and for ``reward_weights``, which replaces ``weights``;
    the second function of a name is ``NAME_2``.

    Under the utility ``oracle`` there is one function ``utility(solutions, **columns)``, which gets
    the texts of a subset of one response's candidates, their ``candidate_indices``, the prompt, and
    the columns of its row.

    Args:
        functions: As TRL takes them, sync or async; `RewardCalls` calls them.
        weights: One weight per function.
        options: Which rewards are allowed, how functions are called, and the floor reward.

    Raises:
        ValueError: A function has a name or an argument that is not allowed, or does not fit the
            utility.
    """

    def __init__(
        self,
        functions: Sequence[Callable[..., Any]],
        weights: Sequence[float],
        options: ShapeGRPOConfig,
    ) -> None:
        in_processes = options.reward_calls == "processes"
        self.calls = [
            RewardCalls(
                function if in_processes else _on_this_gpu(function),
                options.reward_timeout,
                processes=in_processes,
            )
            for function in functions
        ]
        names = [getattr(each, "__name__", type(each).__name__) for each in functions]
        # Two lambdas, or two objects of one class, have one name.
        self.names = [
            f"{name}_{n}" if (n := names[:place].count(name) + 1) > 1 else name
            for place, name in enumerate(names)
        ]
        if len(names) > 1 and (taken := [name for name in self.names if name in NO_NUMBERS]):
            raise ValueError(
                f"A reward function is named {' and '.join(taken)}, which has another "
                "meaning in a reward function's dict, and a function's number stands beside these "
                "under its name. Rename the function."
            )
        self.weights = weights
        self.options = options
        self.failures = FailureLog(options.on_error)
        self.floor = Floor(options)
        self.oracle: RewardFunction | None = None
        if isinstance(options.method.utility, Oracle):
            if list(weights) != [1.0]:
                raise ValueError(
                    f"utility=oracle takes one function, not {len(functions)}, of the weight 1"
                )
            self.oracle = RewardFunction(self.calls[0].function, options)
            self.floor = self.oracle.floor
            return
        for function in functions:
            check_text_argument(function, options)
            if text_argument(function) == "solution_strs":
                raise ValueError(
                    "The reward function takes solution_strs, which verl passes. TRL passes "
                    "completions: write reward(completions, **columns), and per_response=true for "
                    "the candidates of one response at a time."
                )

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

        Raises:
            BrokenFunction: A call with all responses did not return one reward per candidate.
        """
        sets = [CandidateSet() if isinstance(each, Exception) else each for each in found]
        if self.oracle is not None:
            return self._records(found, _wait(self._ask_oracle(self.oracle, sets, examples)))
        asked = [indices_to_score(each) for each in sets]
        scored = self._score(sets, asked, examples, shared)
        more = [more_to_score(*each) for each in zip(sets, scored, strict=True)]
        if any(more):
            # Beside the others of their response, which a function may compare them with.
            again = [sorted(each + of) if of else [] for each, of in zip(asked, more, strict=True)]
            further = self._score(sets, again, examples, shared)
            scored = [{**first, **rest} for first, rest in zip(scored, further, strict=True)]
        if not self.options.method.utility.takes_vectors:
            # All of them before any floor is paid.
            returned = (each.reward for of_answer in scored for each in of_answer.values())
            self.floor.see(reward for reward in returned if not isinstance(reward, Failure))
        settled = [
            ScoredSet.settle(
                each, of_answer, self.options, self.failures, self.floor, f"{draw} {prompt}"
            )
            for each, of_answer, (_, prompt, *_) in zip(sets, scored, examples, strict=True)
        ]
        return self._records(found, settled)

    def _records(
        self, found: Sequence[CandidateSet | Exception], settled: Sequence[ScoredSet]
    ) -> list[CandidateRecord]:
        records = [
            self.failures.unread(each) if isinstance(each, Exception) else of_answer.record
            for each, of_answer in zip(found, settled, strict=True)
        ]
        self.floor.settle(records)
        return records

    async def _ask_oracle(
        self, oracle: RewardFunction, sets: Sequence[CandidateSet], examples: Sequence[Example]
    ) -> list[ScoredSet]:
        def arguments(columns: Mapping[str, Any], text: str, index: int, count: int) -> Row:
            place = {"candidate_index": index, "num_candidates": count}
            return {**columns, **place, "solution_str": text}

        asked = (
            oracle.score_set(found, partial(arguments, {**columns, "prompt": prompt}))
            for found, (columns, prompt, *_) in zip(sets, examples, strict=True)
        )
        return list(await asyncio.gather(*asked))

    def _score(
        self,
        sets: Sequence[CandidateSet],
        indices: Sequence[Sequence[int]],
        examples: Sequence[Example],
        shared: Mapping[str, Any],
    ) -> list[dict[int, Scored]]:
        """Score the candidates of each response at these indices of its ``checked``."""
        responses = [
            [candidate_row(found, index, example) for index in chosen]
            for found, chosen, example in zip(sets, indices, examples, strict=True)
            if chosen
        ]
        columns = []
        for call in self.calls:
            ask = partial(self._try, call, _sendable(shared, call) if call.processes else shared)
            outcomes = _wait(self._ask(ask, responses))
            pairs = zip(outcomes, responses, strict=True)
            columns.append([value for pair in pairs for value in self._settle(call, *pair)])
        rows = (row for response in responses for row in response)
        results = (
            self._combine(values, str(row["completions"]))
            for row, *values in zip(rows, *columns, strict=True)
        )
        return [{index: next(results) for index in chosen} for chosen in indices]

    async def _ask(
        self, ask: Callable[[Responses], Awaitable[list[Outcome]]], responses: Responses
    ) -> list[Outcome]:
        """Return one outcome per response."""
        if self.options.per_response:
            calls = await asyncio.gather(*(ask([response]) for response in responses))
            return [outcome for (outcome,) in calls]
        outcomes = await ask(responses) if responses else []
        if len(outcomes) < 2 or not _failed(outcomes) or self.options.on_error == "raise":
            return outcomes
        count = len(responses)
        alone: dict[int, Outcome] = {}
        for n in dict.fromkeys([0, count // 2, count - 1, *range(count)]):
            (alone[n],) = await ask([responses[n]])
            kinds = {type(outcome) for outcome in alone.values()}
            if len(alone) == min(count, 3) and _failed(alone.values()) and len(kinds) == 1:
                _log_again("some of its responses fail alike alone", outcomes)
                return outcomes
        settled = [alone[n] for n in range(count)]
        _log_again("it was called again with each response", settled)
        return settled

    async def _try(
        self, call: RewardCalls, shared: Mapping[str, Any], responses: Responses
    ) -> list[Outcome]:
        """Call the function once; return one outcome per response."""
        rows = [row for response in responses for row in response]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        try:
            results = iter(read_results(await call(**columns, **shared), len(rows), HINT))
        except Exception as error:
            if isinstance(error, BrokenFunction) and not self.options.per_response:
                raise
            return [error] * len(responses)
        return [[next(results) for _ in response] for response in responses]

    def _settle(self, call: RewardCalls, outcome: Outcome, response: Response) -> list[Any]:
        """Return the result of each candidate, or a `Failure`."""
        if not isinstance(outcome, Exception):
            return outcome
        return [self.failures.failure(outcome, call.function)] * len(response)

    def _combine(self, values: Sequence[Any], text: str) -> Scored:
        """Return the weighted sum of the functions' results for a candidate."""
        failure = next((value for value in values if isinstance(value, Failure)), None)
        if failure is not None:
            return Scored(failure)
        dicts = [value for value in values if isinstance(value, Mapping)]
        try:
            weights = self.options.reward_weights
            for each in dicts:
                if "score" not in each and not weights:
                    raise no_score(each, text)
            numbers = [
                value.get("score") if isinstance(value, Mapping) else value for value in values
            ]
            check_kind(*numbers)
            of_functions = zip(self.names, numbers, strict=True) if len(numbers) > 1 else ()
            details = dict(of_functions)
            for each in dicts:
                details.update(each)
            terms = [
                weight * torch.as_tensor(number, dtype=torch.float64, device="cpu")
                for weight, number in zip(self.weights, numbers, strict=True)
                if number is not None
            ]
            if not terms and not (weights and dicts):
                raise ValueError(f"No reward function returned a number for {text[:200]!r}.")
            check_details(details)
            total = weighted_sum(details, weights, text) if weights else sum(terms)
            return Scored(self.options.checked_reward(total, text), details)
        except Exception as error:
            return Scored(self.failures.failure(error))


def _sendable(shared: Mapping[str, Any], call: RewardCalls) -> Mapping[str, Any]:
    """Return what a function in a process gets of these arguments: those that it names.

    ``log_metric`` belongs to the trainer, and can be called in its process alone.
    """
    named = inspect.signature(call.function).parameters
    return {name: shared[name] for name in shared if name in named and name != "log_metric"}


def _failed(outcomes: Iterable[Outcome]) -> bool:
    return all(isinstance(outcome, Exception) for outcome in outcomes)


def _log_again(what: str, outcomes: Sequence[Outcome]) -> None:
    lost = sum(isinstance(outcome, Exception) for outcome in outcomes)
    logger.warning(
        "A reward function failed for a batch, and %s: %d of %d responses have no rewards. With "
        "per_response=true it is called with one response at a time.",
        what,
        lost,
        len(outcomes),
    )


def _on_this_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function for other threads: each of them begins with the first GPU as its own."""
    if not torch.cuda.is_initialized():
        return function
    device = torch.cuda.current_device()

    @wraps(function)
    def call(**arguments: Any) -> Any:
        with torch.cuda.device(device):
            return function(**arguments)

    return call


def _wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return its result. This thread may have an event loop of its own, as in a notebook."""
    return asyncio.run_coroutine_threadsafe(coroutine, _waiting_loop()).result()


@cache
def _waiting_loop() -> asyncio.AbstractEventLoop:
    return background_loop("waits for reward functions")
