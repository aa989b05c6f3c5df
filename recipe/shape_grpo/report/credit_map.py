"""Credit maps: the responses of one step, each candidate coloured by its advantage.

All advantages are those of `shape_grpo.advantage`, computed anew from the recorded rewards under
several methods, whatever the run was trained by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.report.pieces import Piece, find_pieces, read_tokenizer
from recipe.shape_grpo.report.results import credit_settings
from recipe.shape_grpo.report.rollouts import RECORD, read_rollouts, rollout_files
from shape_grpo.advantage import (
    READINGS,
    CandidateBatch,
    CandidateRecord,
    candidate_advantages,
)
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import ALLOCATORS


@dataclass(frozen=True)
class View:
    """One way to give credit, a column of the map."""

    name: str
    advantage: str
    allocator: str
    allocator_options: dict[str, Any] = field(default_factory=dict)


OF_A_VIEW = ("advantage", "allocator", "allocator_options")

VIEWS = (
    View("GRPO", "reweight", "uniform"),
    View("winner takes all", "reweight", "winner_takes_all"),
    View("the paper: reweight, Shapley", "reweight", "shapley"),
    View("praise, Beta(3, 1)", "praise", "beta_shapley", {"alpha": 3.0, "beta": 1.0}),
    View("contrast, leave-one-out", "contrast", "leave_one_out"),
)


@dataclass(frozen=True)
class ResponseMap:
    """One response under each view.

    Attributes:
        score: The set's reward.
        rewards: Of its candidates; None where the reward function failed.
        lengths: Of its candidates, in tokens.
        pieces: Its text, in order.
        advantages: View name to the advantages of its candidates and of its shared tokens.
        note: Why the text is not coloured; empty where it is.
    """

    score: float
    rewards: list[Any]
    lengths: list[int]
    pieces: list[Piece]
    advantages: dict[str, tuple[list[float], float]]
    note: str = ""


@dataclass(frozen=True)
class GroupMap:
    """The responses to one prompt in one step.

    Attributes:
        prompt: The prompt.
        responses: In the order written.
        scale: The largest advantage of any view, the full colour.
    """

    prompt: str
    responses: list[ResponseMap]
    scale: float


@dataclass(frozen=True)
class StepMap:
    """What a page shows of one step of a run."""

    run: str
    step: int
    views: list[View]
    groups: list[GroupMap]
    num_groups: int


def map_step(run: Path, step: int | None = None, groups: int | None = None) -> StepMap:
    """The credit map of a run's step.

    Args:
        run: A run folder with ``rollouts/STEP.jsonl``.
        step: Default: the last one.
        groups: How many prompts; None for all.

    Raises:
        FileNotFoundError: There are no rollouts, or none of that step.
        ValueError: Rollouts or settings that cannot be read, or no record of candidates in them.
    """
    files = rollout_files(run)
    if not files:
        raise FileNotFoundError(
            f"{run} has no rollouts/STEP.jsonl: set trainer.rollout_data_dir={run}/rollouts."
        )
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
    block = credit_settings(settings)
    # Each view has a method of its own; the rest is the run's.
    config = ShapeGRPOConfig(**{name: block[name] for name in block if name not in OF_A_VIEW})
    by_group: dict[str, list[int]] = {}
    for row, rollout in enumerate(rollouts):
        by_group.setdefault(_group(rollout), []).append(row)
    views = [view for view in VIEWS if view.advantage in READINGS and view.allocator in ALLOCATORS]
    advantages = {view.name: _advantages(rollouts, records, config, view) for view in views}
    tokenizer = read_tokenizer(settings)
    shown = []
    for rows in list(by_group.values())[:groups]:
        responses = []
        for row in rows:
            of_row = {view: credit[row] for view, credit in advantages.items()}
            responses.append(_map_response(rollouts[row], records[row], of_row, config, tokenizer))
        shown.append(GroupMap(rollouts[rows[0]]["input"], responses, _scale(responses)))
    return StepMap(str(run), step, views, shown, len(by_group))


def telling_responses(step_map: StepMap) -> GroupMap:
    """Of the group with the widest spread of scores: the best response, the worst, and the one
    whose candidates' rewards differ most; fewer where they are the same.
    """
    widest = max(step_map.groups, key=lambda group: _spread([r.score for r in group.responses]))
    by_score = sorted(widest.responses, key=lambda response: response.score)
    uneven = max(by_score, key=lambda response: _spread(response.rewards))
    chosen = {id(response): response for response in (by_score[-1], by_score[0], uneven)}
    return GroupMap(widest.prompt, list(chosen.values()), widest.scale)


def _spread(rewards: Sequence[Any]) -> float:
    """Highest less lowest; of vectors, of their sums."""
    known = [sum(r) if isinstance(r, list | bytes) else r for r in rewards if r is not None]
    return float(max(known) - min(known)) if known else 0.0


def _group(rollout: dict[str, Any]) -> str:
    """Verl's uids are ``{prompt}_{session}_{output}``; without one, equal prompts are a group."""
    return str(rollout["uid"]).rsplit("_", 2)[0] if "uid" in rollout else rollout["input"]


def _advantages(
    rollouts: list[dict[str, Any]],
    records: list[CandidateRecord],
    config: ShapeGRPOConfig,
    view: View,
) -> list[tuple[list[float], float]]:
    """For each response, the advantages of its candidates and of its shared tokens."""
    batch = CandidateBatch.collate(records, vectors=config.game.takes_vectors)
    scores = torch.tensor([rollout["score"] for rollout in rollouts], dtype=torch.float64)
    options: Any = {"allocator_options": view.allocator_options} if view.allocator_options else {}
    candidate, shared = candidate_advantages(
        batch.rewards,
        batch.mask,
        batch.ends - batch.starts,
        [_group(rollout) for rollout in rollouts],
        utility=config.game,
        allocator=view.allocator,
        advantage=view.advantage,
        length_correction=config.length_correction,
        epsilon=config.epsilon,
        scores=scores.where(~batch.unknown, float("nan")),
        **options,
    )
    return list(zip(candidate.tolist(), shared.tolist(), strict=True))


def _map_response(
    rollout: dict[str, Any],
    record: CandidateRecord,
    advantages: dict[str, tuple[list[float], float]],
    config: ShapeGRPOConfig,
    tokenizer: Any,
) -> ResponseMap:
    spans = list(zip(record.starts, record.ends, strict=True))
    pieces, note = find_pieces(rollout["output"], spans, config, tokenizer)
    # A candidate without a reward owns no tokens: they are shared tokens of the response.
    pieces = [
        Piece(piece.text)
        if piece.candidate is not None and record.rewards[piece.candidate] is None
        else piece
        for piece in pieces
    ]
    return ResponseMap(
        score=rollout["score"],
        rewards=record.rewards,
        lengths=[end - start for start, end in spans],
        pieces=pieces,
        advantages=advantages,
        note=note,
    )


def _scale(responses: Sequence[ResponseMap]) -> float:
    values = [
        abs(value)
        for response in responses
        for candidates, shared in response.advantages.values()
        for value in (*candidates, shared)
        if math.isfinite(value)
    ]
    return max(values, default=0.0) or 1.0
