"""Tables and files of answers and comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recipe.shape_grpo.evaluate.comparison import FIXED, MODEL, Comparison
from recipe.shape_grpo.evaluate.sampling import Answer
from recipe.shape_grpo.report.statistics import Estimate
from recipe.shape_grpo.tasks.common import Messages

MAX_CHARACTERS = 300
"""Maximum number of characters shown of a prompt (the end, with the request) or an answer."""


def answers_table(prompts: Sequence[Messages], answers: Sequence[Sequence[Answer]]) -> Table:
    """Return one row per answer, with numbered candidates; ``answers`` may be longer."""
    table = Table(show_lines=True)
    for heading in ("prompt", "candidates", "problems"):
        table.add_column(heading, overflow="fold")
    for prompt, samples in zip(prompts, answers, strict=False):
        request = prompt[-1]["content"]
        for number, answer in enumerate(samples):
            candidates = [candidate.text for candidate in answer.found.candidates]
            listed = "\n".join(f"{place}. {text}" for place, text in enumerate(candidates, 1))
            table.add_row(
                Text("" if number else request[-MAX_CHARACTERS:]),
                Text(listed or f"none: {answer.text[:MAX_CHARACTERS]}"),
                Text("\n".join(_problems(answer))),
            )
    return table


def _problems(answer: Answer) -> list[str]:
    problems = [f"{count} {problem}" for problem, count in answer.found.problem_counts.items()]
    return [*problems, "cut off"] if answer.cut else problems


def write_answers(
    path: Path, prompts: Sequence[Messages], answers: Sequence[Sequence[Answer]]
) -> None:
    """Write one line of JSON per answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number, (prompt, samples) in enumerate(zip(prompts, answers, strict=True)):
            for answer in samples:
                _write_line(file, {"index": number, "prompt": prompt, **answer.to_fields()})


def write_comparison(output: Path, comparison: Comparison) -> None:
    """Write ``evaluation.json`` (estimates with intervals) and ``answers.jsonl`` (with rewards)."""
    output.mkdir(parents=True, exist_ok=True)
    result = {
        **comparison.about,
        FIXED: comparison.fixed_set,
        "means": comparison.estimates(),
        "model minus": comparison.differences(),
    }
    text = json.dumps(result, indent=2, ensure_ascii=False, default=asdict)
    (output / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    with (output / "answers.jsonl").open("w", encoding="utf-8") as file:
        for name, answers in comparison.answers.items():
            records = comparison.scored[name].records
            for number, prompt in enumerate(zip(answers, records, strict=True)):
                for answer, record in zip(*prompt, strict=True):
                    fields = {"by": name, "index": number, **answer.to_fields()}
                    _write_line(file, {**fields, "rewards": record.rewards, "error": record.error})


def _write_line(file: Any, fields: dict[str, Any]) -> None:
    file.write(json.dumps(fields, ensure_ascii=False) + "\n")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the means, and the model's differences to the others."""
    about = comparison.about
    answers = about["settings"]["samples"]
    title = f"{about['task']}, {about['prompts']} test prompts, {answers} answers each"
    _print_table(f"{title}: means, 95% intervals", comparison.estimates(), console)
    if differences := comparison.differences():
        minus = {f"minus {name}": measures for name, measures in differences.items()}
        _print_table(f"{MODEL}, prompt by prompt", minus, console)
    if comparison.fixed_set:
        console.print(Text(f"{FIXED}: {'; '.join(comparison.fixed_set)}"))


def _print_table(title: str, columns: dict[str, dict[str, Estimate]], console: Console) -> None:
    table = Table(title=title)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    form = "+.3f" if all(name.startswith("minus") for name in columns) else ".3f"
    for measure in next(iter(columns.values())):
        table.add_row(measure, *(column[measure].text(form) for column in columns.values()))
    console.print(table)
