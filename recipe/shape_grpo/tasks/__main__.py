"""Write a task's prompts, and the data of its rewards, into a folder.

    python -m recipe.shape_grpo.tasks NAME [options]
    python -m recipe.shape_grpo.tasks netflix --history 10 --candidates 5
    python -m recipe.shape_grpo.tasks new my_task [--format json] [--reward set] [--output DIR]

`new` writes a custom task to start from: a folder of short files that run as they are.
`tasks new --help` lists the formats and the kinds of rewards.

Every setting of a task is an option of its command: `tasks netflix --help`. Without `--output`, the
folder is the one that the task's file in `config/task` reads. If it holds the same task already,
that task is kept.
"""

from argparse import BooleanOptionalAction
from pathlib import Path

from recipe.shape_grpo.common.command import (
    CommandParser,
    add_settings,
    choose,
    failing_in_one_line,
)
from recipe.shape_grpo.tasks import TASKS, load_task
from recipe.shape_grpo.tasks.new import new_task
from recipe.shape_grpo.tasks.reward_kinds import REWARD_KINDS
from shape_grpo.candidates.formats import FORMATS

NEW = "new"


def main(arguments: list[str] | None = None) -> None:
    """Prepare the task that the first argument names."""
    summary = __doc__.splitlines()[0]
    name, options = choose("tasks", [*TASKS, NEW], summary, arguments)
    if name == NEW:
        begin_own(options)
    else:
        prepare(name, options)


def prepare(name: str, options: list[str]) -> None:
    """Write the task `name`."""
    task = load_task(name)
    parser = CommandParser(prog=f"tasks {name}", description=(task.__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--output", type=Path | None, help="where to write; without it, outputs/DATASET-kCANDIDATES"
    )
    add_settings(parser, task.TaskSettings)
    values = parser.parse_args(options).as_dict()
    output = values.pop("output")
    with failing_in_one_line(parser.prog):
        settings = task.TaskSettings(**values)
        folder = Path("outputs") / f"{settings.dataset}-k{settings.candidates}"
        task.prepare(output or folder, settings)


def begin_own(options: list[str]) -> None:
    """Write a custom task to start from, and print the next steps."""
    parser = CommandParser(prog=f"tasks {NEW}", description="Write a custom task to start from.")
    parser.add_argument("name", metavar="NAME", help="name of the task, such as my_task")
    parser.add_argument("--output", type=Path | None, help="where to write; without it, NAME")
    parser.add_argument(
        "--format", default="xml", help="how answers hold candidates: " + ", ".join(FORMATS)
    )
    parser.add_argument(
        "--reward",
        choices=sorted({asked for asked, _ in REWARD_KINDS}),
        default="candidate",
        help="what a call of the reward function is about: one candidate, the set of an answer, "
        "or a subset of it",
    )
    parser.add_argument(
        "--vectors",
        action=BooleanOptionalAction,
        help="whether a candidate's reward is a vector, such as one number per test or user",
    )
    chosen = parser.parse_args(options)
    folder = chosen.output or Path(chosen.name)
    vectors = chosen.reward == "candidate" if chosen.vectors is None else chosen.vectors
    with failing_in_one_line(parser.prog):
        if (chosen.reward, vectors) not in REWARD_KINDS:
            raise ValueError("--vectors: a subset has one number, its utility")
        kind = REWARD_KINDS[chosen.reward, vectors]
        files = new_task(chosen.name, folder, form=chosen.format, kind=kind)
    print("\n".join(map(str, files)))
    print(
        f"Next: python {folder}/prompts.py, python -m pytest {folder}, python -m "
        f"recipe.shape_grpo.policies tiny {folder}, and with +task={chosen.name} +method=praise "
        f"+scale={chosen.name} +backend=cpu the commands under 'Your own task' of the README."
    )


if __name__ == "__main__":
    main()
