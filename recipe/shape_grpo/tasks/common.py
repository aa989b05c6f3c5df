"""What the tasks have in common: verl's rows, answers, and when prepared files are used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.files import is_current, read_stamp, write_stamp

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Messages = list[dict[str, str]]
Example = tuple[Messages, str]  # a prompt, as chat messages, and an answer to it

EXAMPLE_PROMPTS = 32
"""Example answers are for so many of a task's prompts; a tokenizer made from more takes longer."""

OWN_EXAMPLES = "examples.jsonl"
"""The example answers of a custom task (`own.py`)."""


@dataclass(frozen=True)
class Examples:
    """What answers to a task look like, right or wrong: the format, and no taste.

    Attributes:
        texts: All that a candidate of such an answer may say.
        draw: ``draw(n)`` makes n examples; the candidates of an answer differ.
    """

    texts: list[str]
    draw: Callable[[int], list[Example]]


def answer_text(candidates: Iterable[str]) -> str:
    """Candidates as the prompts ask for them."""
    return "\n".join(f"<candidate>{candidate}</candidate>" for candidate in candidates)


def answers_to_prompts(
    folder: Path,
    texts: list[str],
    rng: np.random.Generator,
    of_prompts: Sequence[list[str]] | None = None,
) -> Examples:
    """Examples from the first training prompts in `folder`, answered by any of the `texts`.

    Args:
        folder: The task's.
        texts: What a candidate may say.
        rng: Draws prompts and candidates.
        of_prompts: Those of the texts that answer each training prompt; without, all answer any.
    """
    candidates = read_task(folder)["candidates"]
    rows = pd.read_parquet(folder / "train.parquet").head(EXAMPLE_PROMPTS)
    prompts = [list(prompt) for prompt in rows["prompt"]]

    def draw(count: int) -> list[Example]:
        examples = []
        for _ in range(count):
            row = int(rng.integers(len(prompts)))
            said = rng.choice(of_prompts[row] if of_prompts else texts, candidates, replace=False)
            examples.append((prompts[row], answer_text(said)))
        return examples

    return Examples(texts, draw)


def verl_row(
    task: str, ability: str, prompt: Messages, ground_truth: str, **extra_info: Any
) -> dict[str, Any]:
    """One prompt in verl's five columns.

    Args:
        task: The task's name, which the reward function gets as `data_source`.
        ability: verl's name for the kind of task.
        prompt: Chat messages.
        ground_truth: What the reward function compares each candidate with.
        **extra_info: What else it gets; "split" and "index" are always there.
    """
    return {
        "data_source": task,
        "prompt": prompt,
        "ability": ability,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": extra_info,
    }


def task_stamp(task: str, settings: DataclassInstance, *prompts: Messages) -> dict[str, Any]:
    """All that a prepared task was made from, as its folder records it.

    Args:
        task: The task's name.
        settings: The task's.
        *prompts: Samples that hold the words of the task's prompts: other words, other task.
    """
    return {"task": task, **asdict(settings), "prompts": prompts}


def read_task(folder: Path) -> dict[str, Any]:
    """Return what the task in `folder` was made from by one of the modules here.

    Raises:
        FileNotFoundError: There is none.
    """
    stamp = read_stamp(folder) or {}
    if "prompts" not in stamp:
        raise FileNotFoundError(
            f"no task in {folder}: write it with `python -m recipe.shape_grpo.tasks NAME "
            f"--output {folder}`, or put a train.parquet and an {OWN_EXAMPLES} there (tasks/own.py)"
        )
    return stamp


def is_prepared(output: Path, stamp: dict[str, Any], files: Iterable[str]) -> bool:
    """Whether the very task is in `output` already; if so, says it."""
    if current := is_current(output, stamp, files):
        print(f"task: reusing {output}")
    return current


def write_task(
    output: Path, stamp: dict[str, Any], train: list[dict[str, Any]], test: list[dict[str, Any]]
) -> None:
    """Write the prompts and, last, the stamp: all other files must be there by then."""
    for split, rows in (("train", train), ("test", test)):
        pd.DataFrame(rows).to_parquet(output / f"{split}.parquet")
    write_stamp(output, stamp)
