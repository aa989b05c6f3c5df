"""The responses of one group: parsed, scored and credited as in training."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from shape_grpo.advantage import (
    ADVANTAGES,
    CandidateBatch,
    CandidateRecord,
    candidate_advantages,
)
from shape_grpo.candidates import (
    CandidateSet,
    CheckedCandidate,
    check_candidates,
    decode_response,
    token_spans,
)
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import Shares, Split, weigh_shares
from shape_grpo.explain.credited import CreditedCandidate, CreditedResponse, Segment
from shape_grpo.rewards import (
    Failure,
    RewardFunction,
    candidate_arguments,
    failure_in_one_line,
)

NO_ROW: Mapping[str, Any] = {"data_source": "", "reward_model": {"ground_truth": ""}}
"""Row for the reward function where no row of the data is given."""


@dataclass(frozen=True)
class Response:
    """A parsed response.

    Attributes:
        name: Name in what is printed.
        text: The text.
        ids: Token ids; None where there is no tokenizer, and lengths are in characters.
        checked: All candidates, with the rules that apply to them.
        spans: ``(start, end)`` of the candidates that count, in tokens or characters.
        bounds: The same in characters of the text.
    """

    name: str
    text: str
    ids: list[int] | None
    checked: list[CheckedCandidate]
    spans: list[tuple[int, int]]
    bounds: list[tuple[int, int]]

    @property
    def length(self) -> int:
        """Length in tokens or characters."""
        return len(self.text) if self.ids is None else len(self.ids)


def read_response(
    name: str, content: str | list[int], config: ShapeGRPOConfig, tokenizer: Any, *, cut: bool
) -> Response:
    """Find the candidates of a response.

    Args:
        name: Name in what is printed.
        content: Text, or token ids.
        config: Rules for candidates.
        tokenizer: A Hugging Face tokenizer; None for a text whose tokens do not matter. It makes
            the tokens of a text, which may differ from those that a policy sampled.
        cut: Whether the response ended at its length limit.
    """
    if tokenizer is None:
        assert isinstance(content, str)
        checked = check_candidates(content, config, cut=cut)
        spans = [(each.candidate.start, each.candidate.end) for each in checked if each.counts]
        return Response(name, content, None, checked, spans, spans)
    ids = content
    if isinstance(ids, str):
        ids = list(tokenizer(ids, add_special_tokens=False)["input_ids"])
    text = decode_response(tokenizer, ids)
    checked = check_candidates(text, config, cut=cut)
    spans = token_spans(tokenizer, ids, [each.candidate for each in checked if each.counts])

    def characters(tokens: int) -> int:
        return len(decode_response(tokenizer, ids[:tokens]))

    bounds = [(characters(start), characters(end)) for start, end in spans]
    return Response(name, text, ids, checked, spans, bounds)


def score_responses(
    responses: Sequence[Response], function: RewardFunction, row: Mapping[str, Any]
) -> tuple[list[CandidateRecord], list[tuple[str, Failure]]]:
    """Score every candidate that is to be scored, as in training.

    Args:
        responses: Responses of a group.
        function: Reward function.
        row: Row of the data, in verl's columns.

    Returns:
        One record per response, and the texts of the candidates that failed with their failures.
    """
    sets = [CandidateSet.from_checked(each.checked, each.spans) for each in responses]

    async def score_all() -> list[Any]:
        arguments = partial(candidate_arguments, row)
        return await asyncio.gather(*(function.score_set(found, arguments) for found in sets))

    results = asyncio.run(score_all())
    failures = [
        (text, scored.reward)
        for found, (_, of_response) in zip(sets, results, strict=True)
        for text, scored in zip(found.texts, of_response, strict=True)
        if text is not None and isinstance(scored.reward, Failure)
    ]
    return [record for record, _ in results], failures


def credit_group(
    group: Sequence[Response],
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
        split, scores, views = _credit(records, others, config)
    except Exception as error:
        functions = config.method.allocator.allocate, ADVANTAGES[config.advantage]
        raise ValueError(
            f"the credit could not be computed with utility={config.utility}, "
            f"allocator={config.allocator}, advantage={config.advantage}: "
            f"{failure_in_one_line(error, *functions)}"
        ) from error
    return [
        CreditedResponse(
            response.name,
            list(_segments(response)),
            scores[row],
            list(_candidates(response, records[row], split, views, row)),
            {name: shared[row].item() for name, (_, shared) in views.items()},
            response.length,
            "chars" if response.ids is None else "tokens",
        )
        for row, response in enumerate(group)
    ]


Views = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""Name of a view to the advantages (N, K) of candidates and (N,) of shared tokens."""


def _credit(
    records: Sequence[CandidateRecord], others: Sequence[float], config: ShapeGRPOConfig
) -> tuple[Split, list[float], Views]:
    method = config.method
    every = [*records, *[CandidateRecord()] * len(others)]
    batch = CandidateBatch.collate(every, vectors=method.utility.takes_vectors)
    lengths = batch.ends - batch.starts
    scores = [
        float("nan") if record.is_unknown else config.set_score(record.known_rewards)
        for record in records
    ]
    shares: Shares = batch.compute_shares(method)
    split = weigh_shares(
        shares,
        batch.mask,
        lengths,
        allocator=method.allocator,
        length_correction=method.length_correction,
    )

    def advantages(scores: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        exact = torch.tensor(scores, dtype=torch.float64)
        group = ["the prompt"] * len(every)
        return candidate_advantages(
            batch.rewards, batch.mask, lengths, group, method, scores=exact, shares=shares
        )

    if len(every) > 1:
        return split, scores, {"advantage": advantages([*scores, *others])}
    return split, scores, {"A = 1": advantages([1.0]), "A = -1": advantages([-1.0])}


def _candidates(
    response: Response, record: CandidateRecord, split: Split, views: Views, row: int
) -> Iterator[CreditedCandidate]:
    column = 0
    for each in response.checked:
        rule = "" if each.problem is None else f"{each.problem}: {each.rule}"
        if not each.counts:
            yield CreditedCandidate(each.candidate.text, 0, rule=rule, counts=False)
            continue
        start, end = response.spans[column]
        yield CreditedCandidate(
            each.candidate.text,
            end - start,
            record.rewards[column],
            rule,
            share=split.shares[row, column].item(),
            weight=split.weights[row, column].item(),
            advantages={name: own[row, column].item() for name, (own, _) in views.items()},
        )
        column += 1


def _segments(response: Response) -> Iterator[Segment]:
    counted = [number for number, each in enumerate(response.checked) if each.counts]
    at = 0
    for number, (start, end) in zip(counted, response.bounds, strict=True):
        yield Segment(response.text[at:start])
        yield Segment(response.text[start:end], number, ends=True)
        at = end
    yield Segment(response.text[at:])
