"""Export a trained policy, sample its answers, and score them.

    python -m recipe.shape_grpo.evaluate export RUN --output MODEL
    python -m recipe.shape_grpo.evaluate sample MODEL DATA.parquet
    python -m recipe.shape_grpo.evaluate score MODEL --task FOLDER --against START

`export` merges the newest checkpoint of a verl run. `sample` shows answers and their candidates.
`score` scores answers to a task's test prompts by its reward function. It compares them with
another model's answers, and with one fixed set for all prompts: the candidates that MODEL names
most.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from recipe.shape_grpo.common.command import (
    CommandParser,
    add_settings,
    choose,
    failing_in_one_line,
)
from recipe.shape_grpo.common.files import read_stamp
from recipe.shape_grpo.common.run_folder import WRITTEN
from recipe.shape_grpo.evaluate.sampling import SampleSettings
from shape_grpo.candidates import FORMATS, CandidateRules

SHOWN = 8
"""Number of prompts in the table of `sample`."""


def export(arguments: list[str]) -> None:
    """Run the command `export`."""
    from recipe.shape_grpo.evaluate import checkpoint

    parser = CommandParser(
        prog="evaluate export",
        description="Write verl's checkpoint as a Hugging Face model, in bfloat16.",
    )
    parser.add_argument(
        "source", type=Path, metavar="RUN",
        help="folder of a run, of its checkpoints, or of one global_step_N",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="the model's folder")
    parser.add_argument("--step", type=int | None, help="default: the newest complete checkpoint")
    options = parser.parse_args(arguments)
    with failing_in_one_line(parser.prog, options.output):
        checkpoint.export(options.source, options.output, Console(), options.step)


def sample(arguments: list[str]) -> None:
    """Run the command `sample`."""
    parser = CommandParser(
        prog="evaluate sample", description="Sample a model's answers, and parse their candidates."
    )
    parser.add_argument("model", metavar="MODEL", help="a folder, or a name on the hub")
    parser.add_argument("data", type=Path, metavar="DATA.parquet", help="prompts in verl's columns")
    of_run = "default: as in the training of an exported MODEL"
    parser.add_argument(
        "--format", choices=sorted(FORMATS), help=f"how candidates are written; {of_run}, or xml"
    )
    parser.add_argument(
        "--format_options", type=dict[str, Any] | None, help="of the format, as {tag: answer}"
    )
    parser.add_argument(
        "--thoughts", type=str | list[str] | None, help="auto, none, or [open, close]"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/samples.jsonl"), help="one line per answer"
    )
    add_settings(parser, SampleSettings)
    values = parser.parse_args(arguments).as_dict()
    model, data, output = values.pop("model"), values.pop("data"), values.pop("output")
    given = {name: values.pop(name) for name in WRITTEN}
    with failing_in_one_line(parser.prog, output.parent):
        from recipe.shape_grpo.evaluate import tables
        from recipe.shape_grpo.evaluate.sampling import read_prompts, sample_answers

        trained = (read_stamp(Path(model)) or {}) if given["format"] is None else {}
        written = {name: trained[name] for name in WRITTEN if name in trained}
        written |= {name: value for name, value in given.items() if value is not None}
        settings, rules = SampleSettings(**values), CandidateRules(**written)
        prompts = read_prompts(data, settings.prompts)
        answers = sample_answers(model, prompts, settings, rules)
        tables.write_answers(output, prompts, answers)
        console = Console()
        console.print(tables.answers_table(prompts[:SHOWN], answers))
        console.print(f"Answers: {output}", soft_wrap=True)


def score(arguments: list[str]) -> None:
    """Run the command `score`."""
    parser = CommandParser(
        prog="evaluate score",
        description="Score a model's answers to a task's test prompts.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder, or a name on the hub")
    parser.add_argument(
        "overrides", nargs="*",
        help="overrides of the task's configuration, as in training: "
        "reward.custom_reward_function.reward_kwargs.base_url=URL",
    )  # fmt: skip
    parser.add_argument("--task", type=Path, required=True, help="folder of the prepared task")
    parser.add_argument(
        "--against", metavar="MODEL", help="another model, such as the start of training"
    )
    parser.add_argument(
        "--fixed_set", type=bool, default=True, metavar="{true,false}",
        help="also compare with one set for all prompts: the K candidates that MODEL names most; "
        "K calls of the reward function per prompt",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/evaluation"), help="folder for the files"
    )
    add_settings(parser, SampleSettings)
    values = parser.parse_args(arguments).as_dict()
    model, against, output = values.pop("model"), values.pop("against"), values.pop("output")
    folder, overrides = values.pop("task"), values.pop("overrides")
    fixed_set = values.pop("fixed_set")
    with failing_in_one_line(parser.prog, output):
        settings = SampleSettings(**values)
        from recipe.shape_grpo.evaluate import tables
        from recipe.shape_grpo.evaluate.comparison import compare
        from recipe.shape_grpo.tasks.prepared_task import load_task_folder

        task = load_task_folder(folder, overrides or [])
        comparison = compare(task, model, settings, against=against, fixed_set=fixed_set)
        tables.write_comparison(output, comparison)
        tables.print_comparison(comparison, Console())
        print(f"Files: {output}")


COMMANDS = {"export": export, "sample": sample, "score": score}


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the first argument names."""
    name, options = choose("evaluate", list(COMMANDS), (__doc__ or "").splitlines()[0], arguments)
    COMMANDS[name](options)


if __name__ == "__main__":
    main()
