r"""A custom task: a folder with prompts and examples that the user made.

The folder holds `train.parquet` and `test.parquet`, in verl's columns, and `examples.jsonl`:
answers that show a policy the format, one per line, as
{"prompt": "...", "answer": "<candidate>...</candidate>"}. A prompt is the user's text, or a list of
chat messages. An answer in another format than xml has its candidates beside it:
{"prompt": "...", "answer": "[\"a\", \"b\"]", "candidates": ["a", "b"]}. `tasks new` writes
such a folder.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from typing import Any

import numpy as np
from pyarrow import parquet

from recipe.shape_grpo.common.files import file_hashes, read_stamp
from recipe.shape_grpo.tasks.common import (
    OWN_EXAMPLES,
    Example,
    Examples,
    find_tagged,
    read_task,
)
from shape_grpo.candidates import parse_candidates


@dataclass(frozen=True)
class TaskSettings:
    """The settings of a custom task, read from its files.

    Attributes:
        dataset: Name of the task, the `data_source` of its rows.
        candidates: K, the number of candidates of most example answers.
    """

    dataset: str
    candidates: int


def read_any_task(folder: Path) -> dict[str, Any]:
    """Return the settings of the task in `folder`; a custom task's are read from its files.

    Raises:
        OSError: There is no task, or one of its files is missing.
        ValueError: A file of a custom task is invalid.
    """
    if read_stamp(folder) is not None or not (folder / OWN_EXAMPLES).is_file():
        return read_task(folder)
    examples = read_examples(folder)
    train = folder / "train.parquet"
    first = next(parquet.ParquetFile(train).iter_batches(1, columns=["data_source"])).to_pylist()[0]
    return {
        "task": "own",
        "dataset": first["data_source"],
        "candidates": mode(len(example.candidates) for example in examples),
        "files": file_hashes([train, folder / OWN_EXAMPLES]),
    }


@dataclass(frozen=True)
class OwnExample:
    """A line of `examples.jsonl`.

    Attributes:
        prompt: Chat messages.
        answer: The answer.
        candidates: Its candidates.
        is_listed: Whether the line lists them; else they are those in `<candidate>` tags.
    """

    prompt: list[dict[str, str]]
    answer: str
    candidates: list[str]
    is_listed: bool


def read_examples(folder: Path) -> list[OwnExample]:
    """Return the prompts and answers of `examples.jsonl`.

    Raises:
        ValueError: A line is not an example; the message names it, and says what to write.
    """
    examples = list(_parse(folder / OWN_EXAMPLES))
    if not examples:
        raise ValueError(f"{folder / OWN_EXAMPLES} is empty: write example answers")
    return examples


def _parse(path: Path) -> Iterator[OwnExample]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            prompt, answer = row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'{path}:{number} is not an example: write {{"prompt": "...", "answer": "..."}}'
            ) from None
        listed = row.get("candidates")
        found = parse_candidates(answer) if isinstance(answer, str) and listed is None else []
        candidates = [each.text for each in found] if listed is None else listed
        is_list = isinstance(candidates, list) and all(isinstance(c, str) for c in candidates)
        if not candidates or not is_list or not all(candidate.closed for candidate in found):
            raise ValueError(
                f"{path}:{number}: the answer has no <candidate>...</candidate>, or one that is "
                "not closed. Beside an answer in another format write its candidates: "
                '"candidates": ["...", "..."]'
            )
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        yield OwnExample(messages, answer, candidates, listed is not None)


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return the examples in `folder`, drawn at random."""
    examples = read_examples(folder)
    texts = sorted({text for example in examples for text in example.candidates})

    def draw(count: int) -> list[Example]:
        drawn = (examples[number] for number in rng.integers(len(examples), size=count))
        return [(example.prompt, example.answer) for example in drawn]

    def find_listed(answer: str) -> list[str]:
        return [text for text in texts if text in answer]

    is_listed = any(example.is_listed for example in examples)
    return Examples(texts, draw, find_listed if is_listed else find_tagged)
