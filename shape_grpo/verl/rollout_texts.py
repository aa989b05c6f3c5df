"""Shares of rollouts under utilities that read texts, which no response's record can hold."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import Candidate, CandidateRules, CandidateSet
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Oracle
from shape_grpo.rewards import (
    Failure,
    RewardFunction,
    Scored,
    ScoredSet,
    candidate_arguments,
    load_reward_function,
    reward_kwargs,
)

ROW = ("data_source", "reward_model", "extra_info")
"""Columns of a rollout that the arguments of reward functions are made of."""


class RolloutShares:
    """Splits the utility of the rollouts of each prompt. Each has one candidate, its answer.

    Args:
        config: verl's configuration. Its reward function is asked about subsets of a prompt's
            rollouts under the utility ``oracle``.
        options: Its block of this package, with a utility that reads texts.
    """

    def __init__(self, config: DictConfig, options: ShapeGRPOConfig) -> None:
        self.config = options
        function = load_reward_function(config)
        assert function is not None
        self.function = RewardFunction(function, self.config, reward_kwargs(config))

    def __call__(
        self,
        keys: Sequence[str],
        groups: Sequence[str],
        records: Mapping[str, CandidateRecord],
        rows: Mapping[str, Mapping[str, Any]],
    ) -> Tensor:
        """Return the shares (B,), float64; NaN for a rollout without a share.

        A response without a candidate adds its floor.

        Args:
            keys: (B,) keys of the rollouts.
            groups: (B,) their prompts.
            records: Key to record. What fails here becomes the record's failure.
            rows: Key to the columns `ROW`.
        """
        sets: dict[str, list[str]] = {}
        for key, group in zip(keys, groups, strict=True):
            if key in records and records[key].known_rewards:
                sets.setdefault(group, []).append(key)

        async def share_all() -> list[ScoredSet]:
            return await asyncio.gather(
                *(self._share([records[key] for key in of], rows[of[0]]) for of in sets.values())
            )

        shares: dict[str, float | None] = {
            key: self.config.score(record) for key, record in records.items() if not record.rewards
        }
        for of_group, settled in zip(sets.values(), asyncio.run(share_all()), strict=True):
            # After a failure there are none.
            shares.update(zip(of_group, settled.shares, strict=False))
            for key, result in zip(of_group, settled.results, strict=True):
                if isinstance(result.reward, Failure):
                    records[key].rewards, records[key].error = [None], result.reward
        known = (shares.get(key) for key in keys)
        numbers = [float("nan") if share is None else share for share in known]
        return torch.tensor(numbers, dtype=torch.float64)

    async def _share(self, records: Sequence[CandidateRecord], row: Mapping[str, Any]) -> ScoredSet:
        texts = [record.texts[0] for record in records]
        found = CandidateSet.from_candidates(
            [Candidate(text, 0, len(text)) for text in texts],
            [(0, 0)] * len(texts),
            CandidateRules(max_candidates=None, duplicate="score", empty="score"),
        )
        if isinstance(self.config.method.utility, Oracle):
            return await self.function.score_set(found, partial(candidate_arguments, row))
        scored = {k: Scored(record.known_rewards[0]) for k, record in enumerate(records)}
        function = self.function
        return ScoredSet.settle(found, scored, self.config, function.failures, function.floor)
