"""Credit maps: the responses of one step, each candidate coloured by its advantage.

Advantages are computed by `shape_grpo.advantage` from the recorded rewards, under several methods
and not only the run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.report.results import credit_settings
from recipe.shape_grpo.report.rollouts import RECORD, no_rollouts, read_rollouts, rollout_files
from shape_grpo.advantage import (
    CandidateBatch,
    CandidateRecord,
    Method,
    candidate_advantages,
)
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import BetaShapley, LeaveOneOut, Shapley, Uniform, WinnerTakesAll
from shape_grpo.explain.credited import (
    CreditedCandidate,
    CreditedResponse,
    Segment,
    candidate_segments,
)

VIEWS = {
    "GRPO": ("reweight", Uniform()),
    "winner takes all": ("reweight", WinnerTakesAll()),
    "the paper: reweight, Shapley": ("reweight", Shapley()),
    "praise, Beta(3, 1)": ("praise", BetaShapley(3.0, 1.0)),
    "contrast, leave-one-out": ("contrast", LeaveOneOut()),
}
"""Name to advantage and allocator: the columns of a map."""

VIEWS_OF_TEXTS = {
    "GRPO": ("reweight", Uniform()),
    "reweight, the run's shares": ("reweight", Shapley()),
    "praise, the run's shares": ("praise", Shapley()),
}
"""The same for utilities that read texts: records hold shares of the run's allocator alone."""

CREDIT_OF_VIEW = ("advantage", "allocator", "allocator_options")


@dataclass(frozen=True)
class GroupMap:
    """The responses to one prompt in one step.

    Attributes:
        prompt: The prompt.
        responses: The responses, in the order written.
        scale: The largest advantage of any view, the full colour.
    """

    prompt: str
    responses: list[CreditedResponse]
    scale: float


@dataclass(frozen=True)
class StepMap:
    """Contents of the page of one step of a run."""

    run: str
    step: int
    views: list[str]
    groups: list[GroupMap]
    num_groups: int


def map_step(run: Path, step: int | None = None, groups: int | None = None) -> StepMap:
    """Make the credit map of a run's step.

    Args:
        run: A run folder with ``rollouts/STEP.jsonl``.
        step: The step; by default the last one.
        groups: Number of prompts; None: all.

    Raises:
        FileNotFoundError: There are no rollouts, or none of that step.
        ValueError: Rollouts or settings cannot be read, or have no record of candidates.
    """
    files = rollout_files(run)
    if not files:
        raise FileNotFoundError(no_rollouts(run))
    if step is None:
        step = max(files)
    if step not in files:
        raise FileNotFoundError(
            f"{run} has no rollouts of step {step}; there are steps "
            f"{', '.join(map(str, list(files)[:20]))}{', ...' if len(files) > 20 else ''}."
        )
    rollouts = read_rollouts(files[step])
    records = [CandidateRecord.from_fields(rollout[RECORD]) for rollout in rollouts]
    if not rollouts:
        raise ValueError(
            f"{files[step]} holds no record of candidates ({RECORD!r}): train with "
            "trainer.v1.trainer_mode=shape_grpo and reward.reward_manager.name=multi_candidate."
        )
    settings = read_stamp(run) or {}
    # The run's own credit is left out: it may be a custom one that is not registered here.
    block = credit_settings(settings)
    known = {each.name for each in fields(ShapeGRPOConfig)} - set(CREDIT_OF_VIEW)
    config = ShapeGRPOConfig(**{name: block[name] for name in block if name in known})
    methods = {
        name: replace(config.method, advantage=advantage, allocator=allocator)
        for name, (advantage, allocator) in (
            VIEWS_OF_TEXTS if config.method.utility.takes_texts else VIEWS
        ).items()
    }
    advantages = _advantages(rollouts, records, methods, config)
    tokenizer = read_tokenizer(settings)
    by_group: dict[str, list[int]] = {}
    for row, rollout in enumerate(rollouts):
        by_group.setdefault(_group(rollout), []).append(row)
    shown = []
    for rows in list(by_group.values())[:groups]:
        responses = [
            _credited(rollouts[row], records[row], advantages[row], tokenizer) for row in rows
        ]
        shown.append(GroupMap(rollouts[rows[0]]["input"], responses, _scale(responses)))
    return StepMap(str(run), step, list(methods), shown, len(by_group))


def telling_responses(step_map: StepMap) -> GroupMap:
    """Return three responses of the group with the widest spread of scores: the best, the worst,
    and the one whose candidates' rewards differ most; fewer where they are the same.
    """
    widest = max(step_map.groups, key=lambda group: _spread([r.score for r in group.responses]))
    by_score = sorted(widest.responses, key=lambda response: response.score)
    uneven = max(by_score, key=lambda response: _spread([c.reward for c in response.candidates]))
    chosen = {id(response): response for response in (by_score[-1], by_score[0], uneven)}
    return GroupMap(widest.prompt, list(chosen.values()), widest.scale)


def _spread(rewards: Sequence[Any]) -> float:
    """Return the highest less the lowest reward; vectors count with their sums."""
    known = [sum(r) if isinstance(r, list | bytes) else r for r in rewards if r is not None]
    return float(max(known) - min(known)) if known else 0.0


def _group(rollout: Mapping[str, Any]) -> str:
    """Return the group of a rollout. verl's uids are ``{prompt}_{session}_{output}``; without one,
    equal prompts are a group.
    """
    return str(rollout["uid"]).rsplit("_", 2)[0] if "uid" in rollout else rollout["input"]


Views = Mapping[str, tuple[list[float], float]]
"""Name of a view to the advantages of a response's candidates and of its shared tokens."""


def _advantages(
    rollouts: Sequence[Mapping[str, Any]],
    records: Sequence[CandidateRecord],
    methods: Mapping[str, Method],
    config: ShapeGRPOConfig,
) -> list[Views]:
    """Return the advantages of each response under each view."""
    group = [_group(rollout) for rollout in rollouts]
    credited = config.training_records(records, group)
    numbers = [rollout["score"] for rollout in rollouts]
    if credited is not records:
        numbers = [config.score(record) for record in credited]
    batch = CandidateBatch.collate(credited, vectors=config.method.utility.takes_vectors)
    scores = torch.tensor(numbers, dtype=torch.float64)
    scores = scores.where(~batch.unknown, float("nan"))
    lengths = batch.ends - batch.starts
    views: list[dict[str, tuple[list[float], float]]] = [{} for _ in rollouts]
    for name, method in methods.items():
        candidate, shared = candidate_advantages(
            batch.rewards,
            batch.mask,
            lengths,
            group,
            method,
            scores=scores,
            shares=batch.compute_shares(method),
        )
        for view, own, other in zip(views, candidate.tolist(), shared.tolist(), strict=True):
            view[name] = own, other
    return list(views)


def _credited(
    rollout: Mapping[str, Any],
    record: CandidateRecord,
    views: Views,
    tokenizer: Any,
) -> CreditedResponse:
    spans = list(zip(record.starts, record.ends, strict=True))
    written = record.written or record.texts
    segments, note = find_segments(rollout["output"], spans, written, tokenizer)
    candidates = [
        CreditedCandidate(
            text,
            end - start,
            reward,
            advantages={name: own[column] for name, (own, _) in views.items()},
        )
        for column, (text, (start, end), reward) in enumerate(
            zip(record.texts or [""] * len(spans), spans, record.rewards, strict=True)
        )
    ]
    shared = {name: other for name, (_, other) in views.items()}
    return CreditedResponse(
        str(rollout.get("uid", "")), segments, rollout["score"], candidates, shared, note=note
    )


def find_segments(
    text: str, spans: list[tuple[int, int]], texts: Sequence[str], tokenizer: Any
) -> tuple[list[Segment], str]:
    """Return the text's segments, one per token if the tokens are known, and a note.

    A rollout holds text only, and encoding it may give other tokens than were sampled. They are
    used if every candidate stands in those that the record says. Otherwise the candidates are
    searched for. The note says why a text is not coloured, and is empty otherwise.

    Args:
        text: The response, without special tokens.
        spans: Tokens (start, end) of each candidate.
        texts: The candidates, as they are written.
        tokenizer: The run's; None if it is not at hand.
    """
    if len(texts) != len(spans):
        return [Segment(text)], "The record is of an old version, without the candidates' texts."
    if tokenizer is not None and text:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        places = _places_in_tokens(text, offsets, spans, texts)
        if places is not None:
            return _token_segments(text, offsets, spans, places), ""
    places = []
    limit = len(text)
    # From the last one on: a thought before the answer names the candidates as well.
    for candidate in reversed(texts):
        start = text.rfind(candidate, 0, limit)
        if start < 0:
            return [Segment(text)], f"{candidate[:40]!r} is not found in it: it is not coloured."
        places.append((start, start + len(candidate)))
        limit = start
    segments, at = [], 0
    for number, (start, end) in enumerate(reversed(places)):
        segments += [Segment(text[at:start]), Segment(text[start:end], number, ends=True)]
        at = end
    return [*segments, Segment(text[at:])], ""


def _places_in_tokens(
    text: str,
    offsets: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int]],
    texts: Sequence[str],
) -> list[tuple[int, int]] | None:
    """Return the characters (start, end) of each candidate in its tokens.

    None if one is not there, or if its tokens are more than those that carry it.
    """
    places = []
    for (first, end), candidate in zip(spans, texts, strict=True):
        if first == end:  # no token is its own
            places.append((0, 0))
            continue
        if end > len(offsets):
            return None
        begins, last = offsets[first], offsets[end - 1]
        start = text.find(candidate, begins[0], last[1])
        if not begins[0] <= start < begins[1] or start + len(candidate) <= last[0]:
            return None
        places.append((start, start + len(candidate)))
    return places


def _token_segments(
    text: str,
    offsets: Sequence[tuple[int, int]],
    spans: list[tuple[int, int]],
    places: Sequence[tuple[int, int]],
) -> list[Segment]:
    owner = {token: n for n, (start, end) in enumerate(spans) for token in range(start, end)}
    last = {end - 1 for start, end in spans if end > start}
    segments: list[Segment] = []
    # White space between two tokens belongs to the first.
    ends = [start for start, _ in offsets[1:]] + [len(text)]
    for token, ((begin, _), end) in enumerate(zip(offsets, ends, strict=True)):
        start = begin if token else 0
        number = owner.get(token)
        if number is None:
            segments.append(Segment(text[start:end]))
        else:
            segments += candidate_segments(
                text, (start, end), places[number], number, ends=token in last
            )
    return segments


def read_tokenizer(settings: dict[str, Any]) -> Any:
    """Load the run's tokenizer if its settings name a folder that exists; else return None."""
    folder = settings.get("tokenizer") or settings.get("policy")
    if not isinstance(folder, str) or not (Path(folder) / "tokenizer.json").is_file():
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _scale(responses: Sequence[CreditedResponse]) -> float:
    values = [
        abs(value)
        for response in responses
        for values in (response.shared, *(c.advantages for c in response.candidates))
        for value in values.values()
        if value is not None
    ]
    return max(values, default=0.0) or 1.0
