"""Problems in DS-1000's schema, from the hub, a file or this project."""

import gzip
import json
from pathlib import Path
from typing import Any

from recipe.shape_grpo.tasks.small_problems import small_problems

HUB = "xlangai/DS-1000"
SMALL = "small"
FIELDS = ("prompt", "code_context", "reference_code", "metadata")
OTHER_SOLUTIONS = "other_solutions"


def read_problems(path: str | None) -> list[dict[str, Any]]:
    """Return the problems of a file, of this project (``small``), or of the hub (None).

    Raises:
        FileNotFoundError: There is no such file.
        RuntimeError: The hub cannot be reached; the message says what to do instead.
        ValueError: A line is not a problem in DS-1000's schema.
    """
    if path is None:
        return download_problems()
    if path == SMALL:
        return small_problems()
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no file {path!r}: give a jsonl or jsonl.gz file, or {SMALL!r}"
        )
    with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as lines:
        problems = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                problem = json.loads(line)
                missing = [name for name in FIELDS if name not in problem]
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is not a JSON object: {error}") from None
            if missing or "library" not in problem["metadata"]:
                field = missing[0] if missing else "metadata.library"
                raise ValueError(f"{path}, line {number} has no {field!r}: not DS-1000's schema")
            others = problem.get(OTHER_SOLUTIONS, [])
            if not isinstance(others, list) or not all(isinstance(code, str) for code in others):
                raise ValueError(f"{path}, line {number}: {OTHER_SOLUTIONS} is not a list of texts")
            problems.append(problem)
    return problems


def download_problems() -> list[dict[str, Any]]:
    """Return the hub's problems.

    Raises:
        RuntimeError: The hub cannot be reached; the message says what to do instead.
    """
    try:
        from datasets import load_dataset

        return [dict(row) for row in load_dataset(HUB, split="test")]
    except Exception as error:
        raise RuntimeError(
            f"cannot load {HUB} from the hub ({type(error).__name__}): {error}\n"
            "Without a connection, copy the dataset's test.jsonl here and pass --problems FILE"
        ) from error


def right_programs(problem: dict[str, Any]) -> list[str]:
    """Return the problem's reference solution and its other solutions, without repeats."""
    return list(dict.fromkeys([problem["reference_code"], *problem.get(OTHER_SOLUTIONS, ())]))
