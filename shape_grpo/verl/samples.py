"""Some of a step's responses with their credit, to read while a policy trains."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from verl.utils.tracking import ValidationGenerationsLogger

from shape_grpo.advantage import CandidateBatch, CandidateRecord
from shape_grpo.config import ShapeGRPOConfig
from shape_grpo.credit import weigh_shares
from shape_grpo.verl import trainers_logger

logger = trainers_logger(__name__)

LONGEST_CELL = 120
"""Characters of a candidate in a table; the whole of it is in the response below."""


@dataclass(frozen=True)
class Sample:
    """A response with the credit of its candidates.

    Attributes:
        prompt: As the policy read it.
        text: The response.
        score: The set's reward.
        candidates: Of each its tokens as text, its reward, and its credit weight and advantage;
            None where there is none.
        shared: The advantage of the tokens outside them; None where there are none, or where
            another estimator than ``shape_grpo`` gave the advantages.
    """

    prompt: str
    text: str
    score: float
    candidates: list[tuple[str, Any, float | None, float | None]]
    shared: float | None

    def as_markdown(self) -> str:
        """A table of the candidates, and the response."""
        shared = "" if self.shared is None else f", other tokens {self.shared:+.3f}"
        lines = [f"### Set reward {self.score:.4g}{shared}", ""]
        if self.candidates:
            lines += ["| candidate | reward | weight | advantage |", "|---|---|---|---|"]
        for text, reward, weight, advantage in self.candidates:
            cells = [_cell(text), _reward(reward), _number(weight, ".3g")]
            lines.append(f"| {' | '.join([*cells, _number(advantage, '+.3f')])} |")
        return "\n".join([*lines, "", _fenced(self.text), ""])


class SampleLog:
    """Writes samples into a file beside verl's metrics, and into the tables of verl's trackers.

    What fails of it is said once in the log, and the training goes on.

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

    def write(self, step: int, samples: Sequence[Sample]) -> None:
        """Append the samples of a step, which are answers to one prompt."""
        page = [f"## Step {step}", "", _fenced(samples[0].prompt), ""]
        page += [sample.as_markdown() for sample in samples]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("\n".join(page) + "\n")
        except OSError as error:
            self._warn(f"cannot be written to {self.path}", error)
        if self._has_table:
            rows = [(sample.prompt, sample.as_markdown(), sample.score) for sample in samples]
            try:
                self._table.log(self._trackers, rows, step)
            except Exception as error:
                self._warn("cannot be sent to the trackers", error)

    def _warn(self, what: str, error: Exception) -> None:
        if what not in self._failed:
            self._failed.add(what)
            logger.warning(
                "Samples of responses %s (%s: %s). The training goes on, and this is not said "
                "again; algorithm.shape_grpo.log_samples_every=0 asks for none.",
                what,
                type(error).__name__,
                error,
            )


def samples_path(project: str, experiment: str) -> Path:
    """Beside the metrics of verl's logger ``file``: ``x.samples.md`` beside ``x.jsonl``."""
    root = Path(os.environ.get("VERL_FILE_LOGGER_ROOT", ".")).expanduser()
    metrics = os.environ.get("VERL_FILE_LOGGER_PATH") or root / project / f"{experiment}.jsonl"
    return Path(metrics).with_suffix(".samples.md")


def choose_samples(records: Mapping[str, CandidateRecord], options: ShapeGRPOConfig) -> list[str]:
    """Keys of up to ``log_samples`` answers to one prompt, from the best to the worst of them.

    Args:
        records: Those of a step, by verl's keys ``{uid}_{session}_{output}``.
        options: How many, and what a set is worth.
    """
    # verl's uids are random: the first is any.
    prompt = min((key.rsplit("_", 2)[0] for key in records), default="")
    group = [key for key in records if key.rsplit("_", 2)[0] == prompt]
    group.sort(key=lambda key: (-options.set_score(records[key].known_rewards), key))
    count = min(options.log_samples, len(group))
    return [group[place * (len(group) - 1) // max(count - 1, 1)] for place in range(count)]


def make_samples(
    keys: Sequence[str],
    rows: Sequence[int],
    fields: Mapping[str, Mapping[str, Any]],
    records: Mapping[str, CandidateRecord],
    candidates: CandidateBatch,
    advantages: Tensor | None,
    options: ShapeGRPOConfig,
    tokenizer: Any,
) -> list[Sample]:
    """The samples of some answers.

    Args:
        keys: Of the S answers.
        rows: (S,) their rows in the batch.
        fields: Their ``prompts`` and ``responses``, token ids, by key.
        records: Theirs, by key.
        candidates: Those of the B rows.
        advantages: (B, T) those of the tokens; None where another estimator gave them.
        options: How credit is given.
        tokenizer: The policy's.
    """
    chosen = candidates.select(torch.tensor(rows, dtype=torch.long))
    weights = weigh_shares(
        chosen.share(options.game, options.allocator, options.allocator_options),
        chosen.mask,
        chosen.ends - chosen.starts,
        allocator=options.allocator,
        length_correction=options.length_correction,
    ).weights
    samples = []
    for number, (key, row) in enumerate(zip(keys, rows, strict=True)):
        record, ids = records[key], fields[key]["responses"].tolist()
        owned: set[int] = set()
        found = []
        for place, reward in enumerate(record.rewards):
            start, end = record.starts[place], record.ends[place]
            credited = advantages is not None and reward is not None
            weight = weights[number, place].item() if credited else None
            paid = credited and end > start
            advantage = advantages[row, start].item() if paid else None  # type: ignore[index]
            found.append((_decode(tokenizer, ids[start:end]), reward, weight, advantage))
            owned.update(range(start, end) if reward is not None else ())
        # The last of them: what a tool wrote before the last turn is paid nothing.
        last = next((token for token in reversed(range(len(ids))) if token not in owned), None)
        known = advantages is not None and last is not None
        samples.append(
            Sample(
                prompt=_decode(tokenizer, fields[key]["prompts"].tolist()),
                text=_decode(tokenizer, ids),
                score=options.set_score(record.known_rewards),
                candidates=found,
                shared=advantages[row, last].item() if known else None,  # type: ignore[index]
            )
        )
    return samples


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    return text


def _cell(text: str) -> str:
    """As a table has it, on one line."""
    words = " ".join(text.split()).replace("|", "\\|")
    return words if len(words) <= LONGEST_CELL else words[:LONGEST_CELL] + "…"


def _reward(reward: Any) -> str:
    if reward is None:
        return "failed"
    return _number(reward, ".4g") if isinstance(reward, float | int) else _vector(reward)


def _vector(reward: Sequence[float]) -> str:
    return f"{sum(reward):g} of {len(reward)}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value + 0.0:{form}}"


def _fenced(text: str) -> str:
    """A block of text that holds whatever the text does."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
