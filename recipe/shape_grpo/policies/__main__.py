"""Train a tiny Qwen3 to answer a task's prompts, for a machine without a GPU.

    python -m recipe.shape_grpo.policies tiny FOLDER [options]

The policy has less than 1M parameters. FOLDER holds a task that `python -m recipe.shape_grpo.tasks`
has written, or any train.parquet, in verl's columns, with example answers in examples.jsonl, lines
of {"prompt": "...", "answer": "..."}.
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


def main(arguments: list[str] | None = None) -> None:
    """Train the policy."""
    summary = (__doc__ or "").splitlines()[0]
    _, arguments = choose("policies", ["tiny"], summary, arguments)
    from recipe.shape_grpo.policies.tiny_qwen3 import TINY, PolicySettings
    from recipe.shape_grpo.policies.warm_start import train_policy

    parser = CommandParser(prog="policies tiny", description=summary)
    parser.add_argument("task", type=Path, metavar="FOLDER", help="folder of the prepared task")
    parser.add_argument("--output", type=Path | None, help="the folder; without it, FOLDER/policy")
    add_settings(parser, PolicySettings, **asdict(TINY))
    values = parser.parse_args(arguments).as_dict()
    task, output = values.pop("task"), values.pop("output")
    with failing_in_one_line(parser.prog):
        train_policy(task, output or task / "policy", PolicySettings(**values), Console())


if __name__ == "__main__":
    main()
