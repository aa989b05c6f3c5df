"""Write a task's prompts, and the data of its rewards, into a folder.

    python -m recipe.shape_grpo.tasks NAME [options]
    python -m recipe.shape_grpo.tasks netflix --history 10 --candidates 5
    python -m recipe.shape_grpo.tasks new my_task [--output DIR]

`new` writes a custom task to start from: a folder of short files that run as they are.

Every setting of a task is an option of its command: `tasks netflix --help`. Without `--output`, the
folder is the one that the task's file in `config/task` reads. If it holds the same task already,
that task is kept.
"""

from pathlib import Path

from recipe.shape_grpo.common.command import (
    CommandParser,
    add_settings,
    choose,
    failing_in_one_line,
)
from recipe.shape_grpo.tasks import TASKS, load_task
from recipe.shape_grpo.tasks.new import new_task

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
    chosen = parser.parse_args(options)
    folder = chosen.output or Path(chosen.name)
    with failing_in_one_line(parser.prog):
        files = new_task(chosen.name, folder)
    print("\n".join(map(str, files)))
    print(
        f"Next: python {folder}/prompts.py, python -m pytest {folder}, and the README under "
        "'Your own task'."
    )


if __name__ == "__main__":
    main()
