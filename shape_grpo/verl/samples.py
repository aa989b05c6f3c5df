"""Samples: some of a step's responses with their credit, to read during training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from verl.utils.tracking import ValidationGenerationsLogger

from shape_grpo.advantage import CandidateRecord
from shape_grpo.candidates import decode_response
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.explain.credited import CreditedCandidate, CreditedResponse, Segment
from shape_grpo.explain.markdown import as_markdown, fenced
from shape_grpo.verl import trainers_logger
from shape_grpo.verl.context import CandidatesInContext

logger = trainers_logger(__name__)

VIEW = "advantage"


class SampleLog:
    """Writes samples into a file beside verl's metrics, and into the tables of verl's trackers.

    A failure is logged once, and the training goes on.

    Args:
        config: verl's configuration.
    """

    def __init__(self, config: DictConfig) -> None:
        names = config.trainer.project_name, config.trainer.experiment_name
        self.path = samples_path(*names)
        self._trackers = config.trainer.logger
        # verl 0.9.1 has one table of generations, which validation fills where it is asked to.
        self._has_table = not config.trainer.get("log_val_generations")
        self._table = ValidationGenerationsLogger(*names)
        self._failed: set[str] = set()

    def write(self, step: int, prompt: str, samples: Sequence[CreditedResponse]) -> None:
        """Append the samples of a step, which are answers to one prompt."""
        sections = [as_markdown(sample, VIEW) for sample in samples]
        page = [f"## Step {step}", "", fenced(prompt), "", *sections]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\n".join(page) + "\n")
        except OSError as error:
            self._warn(f"cannot be written to {self.path}", error)
        if self._has_table:
            scores = (sample.score for sample in samples)
            rows = [(prompt, *row) for row in zip(sections, scores, strict=True)]
            try:
                self._table.log(self._trackers, rows, step)
            except Exception as error:
                self._warn("cannot be sent to the trackers", error)

    def _warn(self, what: str, error: Exception) -> None:
        if what not in self._failed:
            self._failed.add(what)
            logger.warning(
                "Samples of responses %s (%s: %s). The training goes on, and this is logged only "
                "once; algorithm.shape_grpo.log_samples_every=0 turns samples off.",
                what,
                type(error).__name__,
                error,
            )


def samples_path(project: str, experiment: str) -> Path:
    """Return the path ``x.samples.md`` beside the metrics ``x.jsonl`` of verl's logger ``file``."""
    root = Path(os.environ.get("VERL_FILE_LOGGER_ROOT", ".")).expanduser()
    metrics = os.environ.get("VERL_FILE_LOGGER_PATH") or root / project / f"{experiment}.jsonl"
    return Path(metrics).with_suffix(".samples.md")


def choose_samples(records: Mapping[str, CandidateRecord], options: ShapeGRPOConfig) -> list[str]:
    """Return the keys of up to ``log_samples`` answers to one prompt, from the best to the worst.

    Args:
        records: Records of a step, by verl's keys ``{uid}_{session}_{output}``.
        options: How many, and what a set is worth.
    """
    # verl's uids are random: the first is any.
    prompt = min((key.rsplit("_", 2)[0] for key in records), default="")
    group = [key for key in records if key.rsplit("_", 2)[0] == prompt]
    group.sort(key=lambda key: (-options.score(records[key]), key))
    count = min(options.log_samples, len(group))
    return [group[place * (len(group) - 1) // max(count - 1, 1)] for place in range(count)]


def make_samples(
    keys: Sequence[str],
    rows: Sequence[int],
    fields: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, CandidateRecord],
    context: CandidatesInContext,
    config: ShapeGRPOConfig,
    tokenizer: Any,
) -> tuple[str, list[CreditedResponse]]:
    """Return the prompt of some answers to it, and the answers with their credit.

    Args:
        keys: Keys of the S answers.
        rows: (S,) their rows in the batch.
        fields: Key to ``prompts`` and ``responses``, token ids.
        records: Key to record.
        context: Candidates, shares and token advantages of the batch.
        config: Utility that scores a set.
        tokenizer: The policy's.
    """
    chosen = torch.tensor(rows, dtype=torch.long)
    candidates, method = context.candidates.select(chosen), context.method
    lengths = candidates.ends - candidates.starts
    weights = method.weigh(context.shares.select(chosen), candidates.mask, lengths).weights
    samples = []
    for number, (key, row) in enumerate(zip(keys, rows, strict=True)):
        advantages = None if context.advantages is None else context.advantages[row]
        ids = fields[key]["responses"].tolist()
        samples.append(_credited(records[key], ids, advantages, weights[number], config, tokenizer))
    prompt = decode_response(tokenizer, fields[keys[0]]["prompts"].tolist())
    return prompt, samples


def _credited(
    record: CandidateRecord,
    ids: list[int],
    advantages: Tensor | None,
    weights: Tensor,
    config: ShapeGRPOConfig,
    tokenizer: Any,
) -> CreditedResponse:
    """Return an answer of tokens ``ids`` with the advantages (T,) that it was trained on.

    Its advantages are None where another estimator than ``shape_grpo`` computed them.
    """
    owned: set[int] = set()
    candidates = []
    for column, reward in enumerate(record.rewards):
        start, end = record.starts[column], record.ends[column]
        credited = advantages is not None and reward is not None
        weight = weights[column].item() if credited else None
        advantage = advantages[start].item() if credited and end > start else None  # type: ignore[index]
        candidates.append(
            CreditedCandidate(
                record.texts[column],
                end - start,
                reward,
                weight=weight,
                advantages={VIEW: advantage},
            )
        )
        owned.update(range(start, end) if reward is not None else ())
    # The last of them: tokens of a tool before the last turn are paid nothing.
    last = next((token for token in reversed(range(len(ids))) if token not in owned), None)
    shared = None if advantages is None or last is None else advantages[last].item()
    score = config.score(record)
    segments = [Segment(decode_response(tokenizer, ids))]
    return CreditedResponse("", segments, score, candidates, {VIEW: shared}, len(ids))
