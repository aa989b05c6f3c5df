"""Train the policy in FOLDER/policy on the task in FOLDER by TRL, in one process.

    python -m recipe.shape_grpo.in_process FOLDER --output OUTPUT [options]

Each seed writes a run folder, OUTPUT/seed-N. Finished runs are reused.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.command import CommandParser, add_settings, failing_in_one_line
from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.common.seeds_table import print_seeds_table
from recipe.shape_grpo.in_process.training import LanguageSettings, train
from recipe.shape_grpo.tasks.prepared_task import load_prepared_task


def main(arguments: list[str] | None = None) -> None:
    """Train, and print the runs' rewards."""
    parser = CommandParser(prog="in_process", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", type=Path, metavar="FOLDER", help="folder of the task and policy")
    parser.add_argument("--output", type=Path, required=True, help="folder of the seeds' folders")
    parser.add_argument(
        "--dataset", type=str | None, metavar="NAME",
        help="another file of config/task for the same prompts, such as movielens_group_mean",
    )  # fmt: skip
    add_settings(parser, LanguageSettings)
    values = parser.parse_args(arguments).as_dict()
    folder, output, dataset = (values.pop(name) for name in ("task", "output", "dataset"))
    console = Console()
    with failing_in_one_line(parser.prog, output):
        settings = LanguageSettings(**values)
        task = load_prepared_task(folder, settings.candidates, dataset)
        train(task, settings, output, console)
    runs = [read_metrics(output / f"seed-{seed}") for seed in settings.seeds]
    print_seeds_table(f"{task.name}, {settings.method}", runs, console)
    console.print(f"Metrics: {output}/seed-*/", soft_wrap=True)


if __name__ == "__main__":
    main()
