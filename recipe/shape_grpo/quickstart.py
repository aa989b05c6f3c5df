"""The quickstart: a small policy learns to recommend films, by shape_grpo and by grpo.

    ./run_scripts/quickstart_cpu.sh [--quick] [--verbose] [--ratings DIR] [--methods METHOD ...]

Prepares real ratings as a task, warm-starts a policy of about 1M parameters, trains it by each
method through verl (real Ray, FSDP and vLLM, on the CPU), and ends with a table and a picture: the
runs' own curves over what other seeds of each method gave (`results/quickstart`).
What an earlier run left in the output folder is used again where it was made from the same.
"""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line
from recipe.shape_grpo.common.methods import METHODS
from recipe.shape_grpo.common.run_folder import ROLLOUTS, SAMPLES
from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings
from recipe.shape_grpo.policies.warm_start import train_policy
from recipe.shape_grpo.report.bands import RESULTS, read_bands
from recipe.shape_grpo.report.curves import plot_curves, print_table, read_curve
from recipe.shape_grpo.runs.launch import train
from recipe.shape_grpo.tasks.movielens import TaskSettings, prepare

QUICK = ["trainer.total_training_steps=12", "trainer.test_freq=12"]
POLICY = PolicySettings()
QUICK_POLICY = PolicySettings(steps=300)


def run_overrides(task: Path) -> list[str]:
    """Hydra overrides that train the policy in the task's folder on the task."""
    return ["+task=movielens", "+scale=quickstart", f"dataset.folder={task}"]


def make_task_and_policy(
    task: Path,
    console: Console,
    *,
    ratings: str | None = None,
    policy: PolicySettings = POLICY,
) -> None:
    """Prepare the task in its folder, and warm-start the policy beside it.

    Args:
        task: The folder.
        console: Where progress goes.
        ratings: Folder with MovieLens data; None: MovieLens-100k.
        policy: What the policy is made from.
    """
    prepare(task, TaskSettings(ratings=ratings))
    train_policy(task, task / "policy", policy, console)


def command() -> CommandParser:
    """The options of the quickstart."""
    parser = CommandParser(prog="quickstart_cpu.sh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few steps by one method: shows that it runs"
    )
    parser.add_argument("--verbose", action="store_true", help="show all that verl prints")
    parser.add_argument("--ratings", help="folder with MovieLens data; without it, MovieLens-100k")
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=["grpo", "shape_grpo", "praise"]
    )
    parser.add_argument("--output", type=Path, help="default: outputs/quickstart")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = command().parse_args(arguments)
    name = "quickstart-quick" if options.quick else "quickstart"
    output = options.output or Path("outputs") / name
    console = Console()
    policy = QUICK_POLICY if options.quick else POLICY
    methods = ["shape_grpo"] if options.quick else options.methods
    overrides = [*run_overrides(output / "task"), *(QUICK if options.quick else [])]
    with failing_in_one_line("quickstart"):
        make_task_and_policy(output / "task", console, ratings=options.ratings, policy=policy)
        for method in methods:
            run = output / method
            with_rollouts = [*overrides, f"trainer.rollout_data_dir={run / ROLLOUTS}"]
            train(method, with_rollouts, run, console=console, verbose=options.verbose)
        curves = {method: read_curve(output / method) for method in methods}
    # The bands are of MovieLens-100k and all steps.
    bands = {} if options.quick or options.ratings else read_bands(RESULTS / "quickstart")
    levels = json.loads((output / "task/summary.json").read_text())["test_levels"]
    picture = output / "curves.png"
    plot_curves(curves, picture, bands)
    print_table(curves, console, levels=levels, bands=bands)
    if options.quick:
        console.print(
            f"--quick: a few steps by {methods[0]} alone show that the pipeline runs, and nothing "
            "of how fast it learns or how it compares: run without --quick."
        )
    console.print(
        f"Picture: {picture}\nResponses with their credit: {output}/*/{SAMPLES}\n"
        f"Logs and metrics: {output}/*/"
    )


if __name__ == "__main__":
    main()
