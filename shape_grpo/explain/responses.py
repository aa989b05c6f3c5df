"""The responses of one group: parsed, scored and credited as in training."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shape_grpo.advantage import (
    ADVANTAGES,
    CandidateBatch,
    CandidateRecord,
    candidate_advantages,
)
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Split, times_best
from shape_grpo.explain.credited import CreditedCandidate, CreditedResponse
from shape_grpo.explain.reading import ReadResponse
from shape_grpo.rewards import (
    Failure,
    RewardFunction,
    ScoredSet,
    candidate_arguments,
    failure_in_one_line,
)

NO_ROW: Mapping[str, Any] = {"data_source": "", "reward_model": {"ground_truth": ""}}
"""Row for the reward function where no row of the data is given."""

Views = Mapping[str, tuple[Tensor, Tensor]]
"""Name of a view to the advantages (N, K) of candidates and (N,) of shared tokens."""


def score_responses(
    responses: Sequence[ReadResponse], function: RewardFunction, row: Mapping[str, Any]
) -> tuple[list[ReadResponse], list[CandidateRecord], list[tuple[str, Failure]]]:
    """Score every candidate that is to be scored, as in training.

    Args:
        responses: The responses of a group.
        function: Reward function.
        row: Row of the data, in verl's columns.

    Returns:
        The responses, with duplicates by identity; one record per response; and the texts of the
        candidates that failed with their failures.
    """

    async def score_all() -> list[ScoredSet]:
        arguments = partial(candidate_arguments, row)
        return await asyncio.gather(
            *(function.score_set(each.found, arguments) for each in responses)
        )

    scored = asyncio.run(score_all())
    failures = [
        (candidate.text, result.reward)
        for each in scored
        for candidate, result in zip(each.found.candidates, each.results, strict=True)
        if isinstance(result.reward, Failure)
    ]
    records = [each.record for each in scored]
    function.floor.settle(records)
    settled = [
        replace(response, found=each.found)
        for response, each in zip(responses, scored, strict=True)
    ]
    return settled, records, failures


def credit_group(
    group: Sequence[CreditedResponse],
    records: Sequence[CandidateRecord],
    others: Sequence[float],
    config: ShapeGRPOConfig,
) -> list[CreditedResponse]:
    """Credit the responses of a group, in the view ``advantage``.

    A single response is compared with nothing. It is credited under the GRPO advantages 1 and -1,
    in the views ``A = 1`` and ``A = -1``.

    Args:
        group: Responses to one prompt.
        records: Their records.
        others: Rewards of further responses of the group, of which no more is known.
        config: How credit is given.

    Raises:
        ValueError: A custom allocator or advantage failed; the message says how.
    """
    try:
        split, scores, views, best_for = _credit(records, others, config)
    except Exception as error:
        functions = config.method.allocator.allocate, ADVANTAGES[config.advantage]
        raise ValueError(
            f"the credit could not be computed with utility={config.utility}, "
            f"allocator={config.allocator}, advantage={config.advantage}: "
            f"{failure_in_one_line(error, *functions)}"
        ) from error

    def candidates(row: int) -> list[CreditedCandidate]:
        columns = iter(range(len(records[row].rewards)))
        return [
            replace(
                candidate,
                reward=records[row].rewards[column := next(columns)],
                best_for=None if best_for is None else int(best_for[row, column]),
                share=split.shares[row, column].item(),
                weight=split.weights[row, column].item(),
                advantages={name: own[row, column].item() for name, (own, _) in views.items()},
            )
            if candidate.counts
            else candidate
            for candidate in group[row].candidates
        ]

    return [
        replace(
            response,
            score=scores[row],
            candidates=candidates(row),
            shared={name: shared[row].item() for name, (_, shared) in views.items()},
        )
        for row, response in enumerate(group)
    ]


def _credit(
    records: Sequence[CandidateRecord], others: Sequence[float], config: ShapeGRPOConfig
) -> tuple[Split, list[float], Views, Tensor | None]:
    method = config.method
    records = config.training_records(records, ["the prompt"] * len(records))
    padded = [*records, *[CandidateRecord()] * len(others)]
    batch = CandidateBatch.collate(padded, vectors=method.utility.takes_vectors)
    best_for = times_best(batch.rewards) if method.utility.takes_vectors else None
    lengths, shares = batch.ends - batch.starts, batch.compute_shares(method)
    scores = [math.nan if record.is_unknown else config.score(record) for record in records]
    split = method.weigh(shares, batch.mask, lengths)

    def advantages(scores: Sequence[float]) -> tuple[Tensor, Tensor]:
        exact = torch.tensor(scores, dtype=torch.float64)
        group = ["the prompt"] * len(padded)
        return candidate_advantages(
            batch.rewards, batch.mask, lengths, group, method, scores=exact, shares=shares
        )

    if len(padded) > 1:
        return split, scores, {"advantage": advantages([*scores, *others])}, best_for
    views = {"A = 1": advantages([1.0]), "A = -1": advantages([-1.0])}
    return split, scores, views, best_for
