"""The utility ``oracle``: a reward function of subsets of a response's candidates."""

from __future__ import annotations

import asyncio
from binascii import crc32
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from shape_grpo.candidates import CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Oracle
from shape_grpo.rewards.failures import Failure, FailureLog
from shape_grpo.rewards.floor import Floor
from shape_grpo.rewards.scored import Scored, ScoredSet, indices_to_score

Ask = Callable[[Sequence[int]], Awaitable[Scored]]
"""Returns the utility of the candidates at these indices of ``CandidateSet.checked``."""


async def ask_oracle(
    found: CandidateSet, ask: Ask, config: ShapeGRPOConfig, failures: FailureLog, floor: Floor
) -> ScoredSet:
    """Score the candidates of a response, and split the utility of subsets of them.

    A candidate has failed if the function fails on it alone. If the function fails on several of
    the others together, all have failed, because their utility cannot be split.

    Args:
        found: The candidates.
        ask: Asks about one subset.
        config: The utility ``oracle`` with its options, and the allocator.
        failures: Log of failures.
        floor: The floor reward.
    """
    oracle, allocator = config.method.utility, config.method.allocator
    assert isinstance(oracle, Oracle)
    indices = indices_to_score(found)
    alone = await asyncio.gather(*(ask([index]) for index in indices))
    # Without an identity: candidates that share one are told apart by their subsets.
    scored = {
        index: Scored(each.reward, {"fallback": each.details.get("fallback")})
        for index, each in zip(indices, alone, strict=True)
    }
    settled = ScoredSet.settle(found, scored, config, failures, floor)
    players = [index for index in indices if not isinstance(scored[index].reward, Failure)]
    if not players:
        return settled.with_shares(oracle, [], config)
    try:
        seed = crc32(repr(found.texts_at(players)).encode())
        plan = oracle.plan(len(players), allocator, seed)
        subsets = [[players[k] for k in subset] for subset in plan.subsets]
        several = await asyncio.gather(*(ask(each) for each in subsets if len(each) > 1))
        values: list[Any] = [scored[index].reward for index in players]
        values += [each.reward for each in several]
        if failure := next((value for value in values if isinstance(value, Failure)), None):
            return settled.failed(failure)
        utility = plan.bind(dict(zip(plan.subsets, values, strict=True)))
        return settled.with_shares(utility, [found.place(index)[0] for index in players], config)
    except Exception as error:
        return settled.failed(failures.failure(error))
