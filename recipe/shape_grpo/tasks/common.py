"""Functions shared by the tasks: verl's rows, answers, and the reuse of prepared files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from recipe.shape_grpo.common.files import is_current, read_stamp, write_stamp
from shape_grpo.candidates import parse_candidates

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Messages = list[dict[str, str]]
Example = tuple[Messages, str]  # a prompt, as chat messages, and an answer to it

EXAMPLE_PROMPTS = 32
"""Number of prompts with example answers; more would make a tokenizer's training slower."""

OWN_EXAMPLES = "examples.jsonl"
"""The example answers of a custom task (`own.py`)."""


def find_tagged(answer: str) -> list[str]:
    """Return the whole candidates in an answer in tags, as this project's prompts ask for them."""
    return [candidate.text for candidate in parse_candidates(answer) if candidate.closed]


@dataclass(frozen=True)
class Examples:
    """Example answers to a task, right or wrong, which show the format only.

    Attributes:
        texts: All texts that a candidate of such an answer may have.
        draw: ``draw(n)`` returns n examples; the candidates of an answer differ.
        find: Returns the candidates in an answer that a policy wrote.
    """

    texts: list[str]
    draw: Callable[[int], list[Example]]
    find: Callable[[str], list[str]] = find_tagged


def answer_text(candidates: Iterable[str]) -> str:
    """Return candidates in the format that the prompts ask for."""
    return "\n".join(f"<candidate>{candidate}</candidate>" for candidate in candidates)


def answers_to_prompts(
    folder: Path,
    texts: list[str],
    rng: np.random.Generator,
    of_prompts: Sequence[list[str]] | None = None,
) -> Examples:
    """Return examples from the first training prompts in `folder`, answered by any of the `texts`.

    Args:
        folder: Folder of the task.
        texts: Texts that a candidate may have.
        rng: Generator that draws prompts and candidates.
        of_prompts: Texts that may answer each training prompt; by default, all of `texts`.
    """
    candidates = read_task(folder)["candidates"]
    rows = pd.read_parquet(folder / "train.parquet").head(EXAMPLE_PROMPTS)
    prompts = [list(prompt) for prompt in rows["prompt"]]

    def draw(count: int) -> list[Example]:
        examples = []
        for _ in range(count):
            row = int(rng.integers(len(prompts)))
            drawn = rng.choice(of_prompts[row] if of_prompts else texts, candidates, replace=False)
            examples.append((prompts[row], answer_text(drawn)))
        return examples

    return Examples(texts, draw)


def verl_row(
    task: str, ability: str, prompt: Messages, ground_truth: str, **extra_info: Any
) -> dict[str, Any]:
    """Return one prompt in verl's five columns.

    Args:
        task: The task's name, which the reward function gets as `data_source`.
        ability: verl's name for the kind of task.
        prompt: Chat messages.
        ground_truth: Text with which the reward function compares each candidate.
        **extra_info: Further arguments of the reward function, always with "split" and "index".
    """
    return {
        "data_source": task,
        "prompt": prompt,
        "ability": ability,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": extra_info,
    }


def task_stamp(task: str, settings: DataclassInstance, *prompts: Messages) -> dict[str, Any]:
    """Return the record of all that determines a prepared task, which its folder keeps.

    Args:
        task: Name of the task.
        settings: The task's settings.
        *prompts: Samples with the words of the task's prompts, which are part of the task.
    """
    return {"task": task, **asdict(settings), "prompts": prompts}


def read_task(folder: Path) -> dict[str, Any]:
    """Return what the task in `folder` was made from by one of the modules here.

    Raises:
        FileNotFoundError: There is none.
    """
    stamp = read_stamp(folder) or {}
    # The stamp of a policy holds that of its task there.
    if not isinstance(stamp.get("task"), str):
        raise FileNotFoundError(
            f"no task in {folder}: write it with `python -m recipe.shape_grpo.tasks NAME "
            f"--output {folder}`, or put a train.parquet and an {OWN_EXAMPLES} there (tasks/own.py)"
        )
    return stamp


def is_prepared(output: Path, stamp: dict[str, Any], files: Iterable[str]) -> bool:
    """Return whether `output` holds the same task; if so, print that it is reused."""
    if current := is_current(output, stamp, files):
        print(f"task: reusing {output}")
    return current


def write_task(
    output: Path, stamp: dict[str, Any], train: list[dict[str, Any]], test: list[dict[str, Any]]
) -> None:
    """Write the prompts and then the stamp; all other files must exist by then."""
    for split, rows in (("train", train), ("test", test)):
        pd.DataFrame(rows).to_parquet(output / f"{split}.parquet")
    write_stamp(output, stamp)
