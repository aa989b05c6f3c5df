"""A response's text in pieces, each a token, a candidate, or what is between candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shape_grpo.candidates import CandidateRules, find_candidates, judge_candidates


@dataclass(frozen=True)
class Piece:
    """Text that a reader sees in one colour: a token, a candidate, or what is between candidates.

    Attributes:
        text: The text.
        candidate: Number of the candidate it belongs to; None for shared tokens.
        ends: Whether the candidate ends with it.
    """

    text: str
    candidate: int | None = None
    ends: bool = False


def find_pieces(
    text: str, spans: list[tuple[int, int]], rules: CandidateRules, tokenizer: Any
) -> tuple[list[Piece], str]:
    """The text in pieces, token by token where the tokens are known.

    A rollout holds text, and the tokens that were sampled may be others than those that the
    tokenizer makes of it. They are shown only if they put every candidate where the record has it.
    """
    if tokenizer is not None and text:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        found = find_candidates(tokenizer, encoded["input_ids"], rules, cut=False)
        if found.spans == spans:
            return _token_pieces(text, encoded["offset_mapping"], spans), ""
    kept = [one.candidate for one in judge_candidates(text, rules, cut=False) if one.counts]
    if len(kept) != len(spans):
        return [Piece(text)], (
            f"The record has {len(spans)} candidates, the text {len(kept)}: it is not coloured."
        )
    pieces, at = [], 0
    for number, candidate in enumerate(kept):
        pieces.append(Piece(text[at : candidate.start]))
        pieces.append(Piece(candidate.text, number, ends=True))
        at = candidate.end
    return [*pieces, Piece(text[at:])], ""


def _token_pieces(
    text: str, offsets: Sequence[tuple[int, int]], spans: list[tuple[int, int]]
) -> list[Piece]:
    owner = {token: n for n, (start, end) in enumerate(spans) for token in range(start, end)}
    last = {end - 1 for start, end in spans if end > start}
    pieces = []
    # A token reaches to the next one: what is between two (white space) is shown with the first.
    ends = [start for start, _ in offsets[1:]] + [len(text)]
    for token, ((start, _), end) in enumerate(zip(offsets, ends, strict=True)):
        pieces.append(Piece(text[start if token else 0 : end], owner.get(token), token in last))
    return pieces


def read_tokenizer(settings: dict[str, Any]) -> Any:
    """The run's tokenizer, if its settings name a folder that is there; else None."""
    folder = settings.get("tokenizer") or settings.get("policy")
    if not isinstance(folder, str) or not (Path(folder) / "tokenizer.json").is_file():
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
