"""Make a policy for a machine without a GPU.

    python -m recipe.shape_grpo.policies tiny FOLDER [options]
    python -m recipe.shape_grpo.policies smollm2 [--output FOLDER]

`tiny` trains a Qwen3 of less than 1M parameters for the task in FOLDER: one that
`python -m recipe.shape_grpo.tasks` has written, or any with train.parquet, in verl's columns, and
example answers in examples.jsonl, lines of {"prompt": "...", "answer": "..."}. `smollm2` is
SmolLM2-135M-Instruct, from PyPI.
"""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.command import (
    CommandParser,
    add_settings,
    choose,
    failing_in_one_line,
)


def tiny(arguments: list[str]) -> None:
    """Train a tiny Qwen3 for a task."""
    from recipe.shape_grpo.policies.tiny_qwen3 import TINY, PolicySettings
    from recipe.shape_grpo.policies.warm_start import train_policy

    parser = CommandParser(
        prog="policies tiny", description="Train a tiny Qwen3 to answer a task's prompts."
    )
    parser.add_argument("task", type=Path, metavar="FOLDER", help="folder of the prepared task")
    parser.add_argument("--output", type=Path | None, help="the folder; without it, FOLDER/policy")
    add_settings(parser, PolicySettings, **asdict(TINY))
    values = parser.parse_args(arguments).as_dict()
    task, output = values.pop("task"), values.pop("output")
    with failing_in_one_line(parser.prog):
        train_policy(task, output or task / "policy", PolicySettings(**values), Console())


def smollm2(arguments: list[str]) -> None:
    """Write SmolLM2 into a folder."""
    from recipe.shape_grpo.policies.smollm2 import prepare

    parser = CommandParser(
        prog="policies smollm2", description="Write SmolLM2-135M-Instruct as transformers loads it."
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/smollm2"), help="the folder")
    output = parser.parse_args(arguments).output
    with failing_in_one_line(parser.prog):
        prepare(output)


POLICIES = {"tiny": tiny, "smollm2": smollm2}


def main(arguments: list[str] | None = None) -> None:
    """Make the policy that is named first."""
    summary = __doc__.splitlines()[0]
    name, options = choose("policies", list(POLICIES), summary, arguments)
    POLICIES[name](options)


if __name__ == "__main__":
    main()
