"""The one way to ask a reward function about candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from shape_grpo.candidates import CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Oracle
from shape_grpo.rewards.arguments import arguments_of, check_text_argument, text_argument
from shape_grpo.rewards.calls import RewardCalls
from shape_grpo.rewards.failures import Failure, FailureLog
from shape_grpo.rewards.floor import Floor
from shape_grpo.rewards.function import read_result, read_results
from shape_grpo.rewards.oracle import ask_oracle
from shape_grpo.rewards.processes import RewardTimeout
from shape_grpo.rewards.scored import Scored, ScoredSet, indices_to_score, more_to_score

Arguments = Callable[[str, int, int], Mapping[str, Any]]
"""Returns a call's arguments for a candidate's text, its index and the number of candidates.

`shape_grpo.rewards.candidate_arguments` of a row is one.
"""

Place = tuple[int, int]
"""Index of a candidate in its response, and the number of candidates there."""


class RewardFunction:
    """A user's reward function, asked about one candidate per call, or about several.

    The name of its argument for text says which: ``solution_str``, ``solution_strs`` (all
    candidates of a response), or ``solutions`` (a subset of them, for the utility ``oracle``).

    Args:
        function: verl's ``compute_score``, sync or async.
        config: Which rewards are allowed, the floor reward, and the timeout.
        keywords: Further keywords of every call.
        log_failures: Whether the first failure of each kind is logged.
        threads: As for `RewardCalls`.

    Raises:
        ValueError: The utility needs a function of ``solutions`` and this is none, or the reverse.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        config: ShapeGRPOConfig,
        keywords: Mapping[str, Any] | None = None,
        *,
        log_failures: bool = True,
        threads: int | None = None,
    ) -> None:
        self.config = config
        self.floor = Floor(config)
        self.keywords = keywords or {}
        in_processes = config.reward_calls == "processes"
        self.call = RewardCalls(function, config.reward_timeout, threads, processes=in_processes)
        self.failures = FailureLog(config.on_error if log_failures else None)
        self.text_argument = text_argument(function)
        self._join = arguments_of(function)
        check_text_argument(function, config)

    async def score_set(
        self, found: CandidateSet, arguments: Arguments, draw: str = ""
    ) -> ScoredSet:
        """Score the candidates of a response.

        Where the function returns an ``identity``, the rule ``duplicate`` goes by it.

        Args:
            found: The candidates.
            arguments: Returns the arguments of each candidate's call, without ``keywords``.
            draw: Names run, step and prompt, for utilities that draw at random.
        """
        if isinstance(self.config.method.utility, Oracle):

            async def ask(indices: Sequence[int]) -> Scored:
                places = [*map(found.place, indices)]
                return await self._score_one(found.texts_at(indices), arguments, places)

            return await ask_oracle(found, ask, self.config, self.failures, self.floor)
        first = indices_to_score(found)
        scored = await self._score_some(found, first, arguments)
        more = more_to_score(found, scored)
        if more:
            # Candidates that a function compares must be seen together.
            indices = sorted(first + more) if self.text_argument == "solution_strs" else more
            scored |= await self._score_some(found, indices, arguments)
        log, floor = self.failures, self.floor
        settle = partial(ScoredSet.settle, found, scored, self.config, log, floor, draw)
        # A utility of texts may take its time, and other responses wait on this loop.
        reads_texts = self.config.method.utility.takes_texts
        return await asyncio.to_thread(settle) if reads_texts else settle()

    async def score_texts(
        self, texts: Sequence[str], arguments: Arguments, places: Sequence[Place]
    ) -> list[Scored]:
        """Ask for the rewards of candidates of one response: concurrently, or in one call.

        Args:
            texts: The candidates.
            arguments: Returns the arguments of each candidate's call, without ``keywords``.
            places: Index of each in the response, and the number of candidates there.
        """
        if self.text_argument != "solution_strs":
            each = zip(texts, places, strict=True)
            asked = (self._score_one([text], arguments, [place]) for text, place in each)
            return list(await asyncio.gather(*asked))
        if not texts:
            return []
        try:
            results = read_results(await self.ask(texts, arguments, places), len(texts))
        except Exception as error:
            return [Scored(self._failure(error, texts))] * len(texts)
        return [self._read(result, text) for result, text in zip(results, texts, strict=True)]

    async def _score_some(
        self, found: CandidateSet, indices: Sequence[int], arguments: Arguments
    ) -> dict[int, Scored]:
        """Score the candidates at these indices of ``found.checked``."""
        places = [*map(found.place, indices)]
        scored = await self.score_texts(found.texts_at(indices), arguments, places)
        return dict(zip(indices, scored, strict=True))

    async def _score_one(
        self, texts: Sequence[str], arguments: Arguments, places: Sequence[Place]
    ) -> Scored:
        """Ask for the one result about these candidates."""
        try:
            return self._read(await self.ask(texts, arguments, places), ", ".join(texts))
        except Exception as error:
            return Scored(self._failure(error, texts))

    async def ask(self, texts: Sequence[str], arguments: Arguments, places: Sequence[Place]) -> Any:
        """Return the function's result for candidates of one response; as `score_texts`."""
        calls = [arguments(text, *place) for text, place in zip(texts, places, strict=True)]
        return await self.call(**{**self._join(calls), **self.keywords})

    def _read(self, result: Any, text: str) -> Scored:
        try:
            return Scored(*read_result(result, text, self.config))
        except Exception as error:
            return Scored(self._failure(error, [text]))

    def _failure(self, error: Exception, texts: Sequence[str]) -> Failure:
        if isinstance(error, RewardTimeout):
            shown = ", ".join(repr(text[:200]) for text in texts)
            error.add_note(f"The call was about {shown:.1000}.")
        return self.failures.failure(error, self.call.function)
