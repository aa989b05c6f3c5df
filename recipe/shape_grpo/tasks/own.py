"""A custom task: a folder with prompts and examples that the user made.

The folder holds `train.parquet` and `test.parquet`, in verl's columns, and `examples.jsonl`:
answers that show a policy the format, one per line, as
{"prompt": "...", "answer": "<candidate>...</candidate>"}. A prompt is the user's text, or a list of
chat messages. `tasks new` writes such a folder.
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
from recipe.shape_grpo.tasks.common import OWN_EXAMPLES, Example, Examples, read_task
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
    answers = [answer for _, answer in read_examples(folder)]
    train = folder / "train.parquet"
    first = next(parquet.ParquetFile(train).iter_batches(1, columns=["data_source"])).to_pylist()[0]
    return {
        "task": "own",
        "dataset": first["data_source"],
        "candidates": mode(len(parse_candidates(answer)) for answer in answers),
        "files": file_hashes([train, folder / OWN_EXAMPLES]),
    }


def read_examples(folder: Path) -> list[Example]:
    """Return the prompts and answers of `examples.jsonl`.

    Raises:
        ValueError: A line is not an example; the message names it, and says what to write.
    """
    examples = list(_parse(folder / OWN_EXAMPLES))
    if not examples:
        raise ValueError(f"{folder / OWN_EXAMPLES} is empty: write example answers")
    return examples


def _parse(path: Path) -> Iterator[Example]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            prompt, answer = row["prompt"], row["answer"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                f'{path}:{number} is not an example: write {{"prompt": "...", "answer": "..."}}'
            ) from None
        candidates = parse_candidates(answer) if isinstance(answer, str) else []
        if not candidates or not all(candidate.closed for candidate in candidates):
            raise ValueError(
                f"{path}:{number}: the answer has no <candidate>...</candidate>, or one that is "
                "not closed"
            )
        yield [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt, answer


def example_answers(folder: Path, rng: np.random.Generator) -> Examples:
    """Return the examples in `folder`, drawn at random."""
    examples = read_examples(folder)
    texts = {c.text for _, answer in examples for c in parse_candidates(answer)}

    def draw(count: int) -> list[Example]:
        return [examples[number] for number in rng.integers(len(examples), size=count)]

    return Examples(sorted(texts), draw)
