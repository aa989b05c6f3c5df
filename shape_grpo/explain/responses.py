"""The responses of one group: parsed, scored and credited as a training would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from shape_grpo.advantage import (
    READINGS,
    CandidateBatch,
    CandidateRecord,
    candidate_advantages,
)
from shape_grpo.candidates import (
    CandidateSet,
    JudgedCandidate,
    decode_response,
    judge_candidates,
    token_spans,
)
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import ALLOCATORS, weigh_shares
from shape_grpo.failures import failure_in_one_line
from shape_grpo.verl.reward_calls import RewardCalls, score_candidates

NO_ROW: Mapping[str, Any] = {"data_source": "", "reward_model": {"ground_truth": ""}}
"""What a reward function is told where no row of the data is given."""


@dataclass(frozen=True)
class Response:
    """A response as it is read.

    Attributes:
        name: What it is called in what is printed.
        text: Its text.
        ids: Its token ids; None where there is no tokenizer, and lengths are in characters.
        judged: All that is written as a candidate.
        spans: ``(start, end)`` of the candidates that count, in tokens or characters.
        bounds: The same in characters of the text.
    """

    name: str
    text: str
    ids: list[int] | None
    judged: list[JudgedCandidate]
    spans: list[tuple[int, int]]
    bounds: list[tuple[int, int]]

    @property
    def length(self) -> int:
        """Tokens, or characters."""
        return len(self.text) if self.ids is None else len(self.ids)


def read_response(
    name: str, content: str | list[int], options: ShapeGRPOConfig, tokenizer: Any, *, cut: bool
) -> Response:
    """Find the candidates of a response.

    Args:
        name: What to call it.
        content: Its text, or its token ids.
        options: The rules for candidates.
        tokenizer: A Hugging Face tokenizer; None for a text whose tokens do not matter. The tokens
            of a text are those that it makes of it, which may be others than a policy sampled.
        cut: Whether the response ended at its length limit.
    """
    if tokenizer is None:
        assert isinstance(content, str)
        judged = judge_candidates(content, options, cut=cut)
        spans = [(one.candidate.start, one.candidate.end) for one in judged if one.counts]
        return Response(name, content, None, judged, spans, spans)
    ids = content
    if isinstance(ids, str):
        ids = list(tokenizer(ids, add_special_tokens=False)["input_ids"])
    text = decode_response(tokenizer, ids)
    judged = judge_candidates(text, options, cut=cut)
    spans = token_spans(tokenizer, ids, [one.candidate for one in judged if one.counts])

    def characters(tokens: int) -> int:
        return len(decode_response(tokenizer, ids[:tokens]))

    bounds = [(characters(start), characters(end)) for start, end in spans]
    return Response(name, text, ids, judged, spans, bounds)


@dataclass(frozen=True)
class Scored:
    """A response with its rewards.

    Attributes:
        response: The response.
        record: As a training keeps it.
        failures: Text of a candidate to what its reward failed of, in one line.
    """

    response: Response
    record: CandidateRecord
    failures: list[tuple[str, str]]


def score_responses(
    responses: Sequence[Response],
    function: Callable[..., Any],
    keywords: Mapping[str, Any],
    row: Mapping[str, Any],
    options: ShapeGRPOConfig,
) -> list[Scored]:
    """Call the reward function for every candidate that is to be scored, as a training does.

    Args:
        responses: Those of a group.
        function: verl's ``compute_score``, sync or async.
        keywords: Its ``reward_kwargs``.
        row: Of the data, with verl's columns.
        options: Which rewards are allowed, and for how long a call may take.
    """
    call = RewardCalls(function, options.reward_timeout)

    async def score(response: Response) -> Scored:
        failures: list[tuple[str, str]] = []

        def failed(text: str, error: Exception) -> str:
            failures.append((text, failure_in_one_line(error, function)))
            return failures[-1][1]

        found = CandidateSet.from_judged(response.judged, response.spans)
        record = await score_candidates(call, found, row, options, failed, keywords)
        return Scored(response, record, failures)

    async def score_all() -> list[Scored]:
        return await asyncio.gather(*map(score, responses))

    return asyncio.run(score_all())


@dataclass(frozen=True)
class Credited:
    """A response with its credit. Lists have one entry a candidate that counts.

    Attributes:
        scored: The response and its rewards.
        score: The set's reward; NaN where none of its candidates could be scored.
        shares: Of the set's reward.
        weights: How many times the response's advantage a candidate is paid under ``reweight``.
        advantages: Those of candidates, by the name of what they are under.
        shared: Those of all other tokens, by the same names.
    """

    scored: Scored
    score: float
    shares: list[float]
    weights: list[float]
    advantages: dict[str, list[float]]
    shared: dict[str, float]


def credit_group(
    group: Sequence[Scored],
    others: Sequence[float],
    options: ShapeGRPOConfig,
    *,
    norm_by_std: bool,
) -> list[Credited]:
    """The credit of the responses of a group, under ``advantage``.

    A response alone is compared with nothing. It gets what it would under the GRPO advantages of 1
    and -1, as ``A = 1`` and ``A = -1``.

    Args:
        group: Responses to one prompt.
        others: Rewards of further responses of the group, of which no more is known.
        options: How credit is given.
        norm_by_std: verl's ``norm_adv_by_std_in_grpo``.

    Raises:
        ValueError: An allocator or a reading of one's own failed; says how.
    """
    try:
        return _credit_group(group, others, options, norm_by_std)
    except Exception as error:
        functions = ALLOCATORS.find(options.allocator), READINGS.find(options.advantage)
        raise ValueError(
            f"the credit could not be computed with utility={options.utility}, "
            f"allocator={options.allocator}, advantage={options.advantage}: "
            f"{failure_in_one_line(error, *functions)}"
        ) from error


def _credit_group(
    group: Sequence[Scored], others: Sequence[float], options: ShapeGRPOConfig, norm_by_std: bool
) -> list[Credited]:
    records = [scored.record for scored in group] + [CandidateRecord()] * len(others)
    batch = CandidateBatch.collate(records, vectors=options.game.takes_vectors)
    lengths = batch.ends - batch.starts
    scores = [
        float("nan") if record.is_unknown else options.set_score(record.known_rewards)
        for record in records[: len(group)]
    ]
    share = partial(batch.share, options.game, options.allocator, options.allocator_options)
    split = weigh_shares(
        share(),
        batch.mask,
        lengths,
        allocator=options.allocator,
        length_correction=options.length_correction,
    )

    def advantages(of_sets: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        return candidate_advantages(
            batch.rewards,
            batch.mask,
            lengths,
            ["the prompt"] * len(records),
            utility=options.game,
            allocator=options.allocator,
            allocator_options=options.allocator_options,
            advantage=options.advantage,
            length_correction=options.length_correction,
            norm_by_std=norm_by_std,
            epsilon=options.epsilon,
            scores=torch.tensor(of_sets, dtype=torch.float64),
            shares=share,
        )

    if len(records) > 1:
        views = {"advantage": advantages([*scores, *others])}
    else:
        views = {"A = 1": advantages([1.0]), "A = -1": advantages([-1.0])}
    return [
        Credited(
            scored,
            scores[row],
            split.shares[row].tolist(),
            split.weights[row].tolist(),
            {name: candidate[row].tolist() for name, (candidate, _) in views.items()},
            {name: shared[row].item() for name, (_, shared) in views.items()},
        )
        for row, scored in enumerate(group)
    ]
