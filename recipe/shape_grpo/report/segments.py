"""Splits a recorded response's text into segments of its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shape_grpo.candidates import CandidateRules, check_candidates, find_candidates
from shape_grpo.explain.credited import Segment


def find_segments(
    text: str, spans: list[tuple[int, int]], rules: CandidateRules, tokenizer: Any
) -> tuple[list[Segment], str]:
    """Return the text's segments, one per token if the tokens are known, and a note.

    A rollout holds text only, and encoding it may give other tokens than were sampled. They are
    used if they put every candidate where the record has it. The note says why a text is not
    coloured, and is empty otherwise.
    """
    if tokenizer is not None and text:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        found = find_candidates(tokenizer, encoded["input_ids"], rules, cut=False)
        if found.spans == spans:
            return _token_segments(text, encoded["offset_mapping"], spans), ""
    kept = [check.candidate for check in check_candidates(text, rules, cut=False) if check.counts]
    if len(kept) != len(spans):
        return [Segment(text)], (
            f"The record has {len(spans)} candidates, the text {len(kept)}: it is not coloured."
        )
    segments, at = [], 0
    for number, candidate in enumerate(kept):
        segments.append(Segment(text[at : candidate.start]))
        segments.append(Segment(candidate.text, number, ends=True))
        at = candidate.end
    return [*segments, Segment(text[at:])], ""


def _token_segments(
    text: str, offsets: Sequence[tuple[int, int]], spans: list[tuple[int, int]]
) -> list[Segment]:
    owner = {token: n for n, (start, end) in enumerate(spans) for token in range(start, end)}
    last = {end - 1 for start, end in spans if end > start}
    segments = []
    # White space between two tokens belongs to the first.
    ends = [start for start, _ in offsets[1:]] + [len(text)]
    for token, ((start, _), end) in enumerate(zip(offsets, ends, strict=True)):
        segments.append(Segment(text[start if token else 0 : end], owner.get(token), token in last))
    return segments


def read_tokenizer(settings: dict[str, Any]) -> Any:
    """Load the run's tokenizer if its settings name a folder that exists; else return None."""
    folder = settings.get("tokenizer") or settings.get("policy")
    if not isinstance(folder, str) or not (Path(folder) / "tokenizer.json").is_file():
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
