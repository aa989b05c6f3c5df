"""Responses as text, token ids or chat messages, and their candidates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shape_grpo.candidates import (
    CandidateSet,
    decode_response,
    end_of_turn_ids,
    find_candidates,
    find_in_text,
)
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.credited import (
    CreditedCandidate,
    CreditedResponse,
    Segment,
    candidate_segments,
)
from shape_grpo.rewards import failure_in_one_line

Part = tuple[str | list[int], bool]
"""Text or token ids, and whether the policy wrote them."""


@dataclass(frozen=True)
class ReadResponse:
    """A response and its candidates.

    Attributes:
        name: Name in what is printed.
        text: The text.
        found: Its candidates.
        bounds: Characters (start, end) that the tokens of each of ``found.checked`` carry.
        turns: Characters (start, end) that the policy wrote.
        length: Length of what the policy wrote, in tokens or characters.
        unit: ``tokens`` or ``chars``.
    """

    name: str
    text: str
    found: CandidateSet
    bounds: Sequence[tuple[int, int]]
    turns: Sequence[tuple[int, int]]
    length: int
    unit: str

    def uncredited(self) -> CreditedResponse:
        """Return the response without its credit."""
        candidates: list[CreditedCandidate] = []
        segments: list[Segment] = []
        at = 0
        for number, (each, bounds) in enumerate(zip(self.found.checked, self.bounds, strict=True)):
            rule = "" if each.problem is None else f"{each.problem}: {each.rule}"
            first, last = each.span
            if each.counts:
                start, end = bounds
                segments += self._shared(at, start)
                left = max(self.text.find(each.candidate.written, start, end), start)
                own = left, left + len(each.candidate.written)
                segments += candidate_segments(self.text, bounds, own, number)
                at = end
            candidates.append(
                CreditedCandidate(each.candidate.text, last - first, None, rule, each.counts)
            )
        segments += self._shared(at, len(self.text))
        return CreditedResponse(
            self.name, segments, math.nan, candidates, {}, self.length, self.unit
        )

    def _shared(self, start: int, end: int) -> Iterator[Segment]:
        """Yield the segments of text outside of candidates."""
        at = start
        for first, last in self.turns:
            first, last = max(first, start), min(last, end)
            if first < last:
                if at < first:
                    yield Segment(self.text[at:first], masked=True)
                yield Segment(self.text[first:last])
                at = last
        if at < end:
            yield Segment(self.text[at:end], masked=True)


def read_response(
    name: str,
    parts: Sequence[Part],
    config: ShapeGRPOConfig,
    tokenizer: Any,
    *,
    cut: bool,
    prompt: str = "",
) -> ReadResponse:
    """Find the candidates of a response.

    Args:
        name: Name in what is printed.
        parts: What the policy wrote, and what a tool or a user wrote between its turns.
        config: Where candidates are, and which of them count.
        tokenizer: A Hugging Face tokenizer; None for texts whose tokens do not matter: lengths are
            in characters then. It makes the tokens of a text, which may differ from those that a
            policy sampled.
        cut: Whether the response ended at its length limit.
        prompt: Text of the rendered prompt, or its end.

    Raises:
        ValueError: A custom format failed on the response; the message says how.
    """
    try:
        if tokenizer is None:
            return _read_text(name, parts, config, cut=cut, prompt=prompt)
        return _read_tokens(name, parts, config, tokenizer, cut=cut, prompt=prompt)
    except Exception as error:
        raise ValueError(
            f"format={config.format} failed on {name}: {failure_in_one_line(error)}"
        ) from error


def _read_text(
    name: str, parts: Sequence[Part], config: ShapeGRPOConfig, *, cut: bool, prompt: str
) -> ReadResponse:
    texts = [str(part) for part, _ in parts]
    text = "".join(texts)
    turns = _turns(parts, texts)
    found = find_in_text(text, config, cut=cut, prompt=prompt, turns=turns)
    bounds = [each.span for each in found.checked]
    return ReadResponse(name, text, found, bounds, turns, _length(turns), "chars")


def _read_tokens(
    name: str,
    parts: Sequence[Part],
    config: ShapeGRPOConfig,
    tokenizer: Any,
    *,
    cut: bool,
    prompt: str,
) -> ReadResponse:
    encoded = [encode(tokenizer, part) if isinstance(part, str) else part for part, _ in parts]
    ids = [token_id for part in encoded for token_id in part]
    turns = _turns(parts, encoded)
    ends = end_of_turn_ids(tokenizer, [getattr(tokenizer, "name_or_path", None)])
    found = find_candidates(
        tokenizer,
        ids,
        config,
        cut=cut and bool(ids) and ids[-1] not in ends,
        prompt_ids=encode(tokenizer, prompt),
        turns=turns,
    )
    spans = [each.span for each in found.checked]
    characters = {
        number: len(decode_response(tokenizer, ids[:number]))
        for number in {place for span in (*spans, *turns) for place in span}
    }
    bounds, written = (
        [(characters[start], characters[end]) for start, end in places] for places in (spans, turns)
    )
    text = decode_response(tokenizer, ids)
    return ReadResponse(name, text, found, bounds, written, _length(turns), "tokens")


def _length(turns: Sequence[tuple[int, int]]) -> int:
    return sum(end - start for start, end in turns)


def encode(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text, without tokens that begin or end a sequence."""
    ids: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return ids


def _turns(parts: Sequence[Part], contents: Sequence[Sequence[Any]]) -> list[tuple[int, int]]:
    """Return the places (start, end) of the policy's parts among the joined contents."""
    turns, at = [], 0
    for (_, is_policys), content in zip(parts, contents, strict=True):
        if is_policys:
            turns.append((at, at + len(content)))
        at += len(content)
    return turns
