"""The quickstart: a small policy learns to recommend films, by shape_grpo and by grpo.

    ./run_scripts/quickstart_cpu.sh [--quick] [--verbose] [--ratings DIR] [--methods METHOD ...]

Prepares real ratings as a task, warm-starts a policy of about 1M parameters, trains it by each
method through verl (real Ray, FSDP and vLLM, on the CPU), and ends with a table and a picture: the
curves of these runs, with bands from other seeds of each method (`results/quickstart`).
Tasks, policies and runs in the output folder are reused if they were made with the same settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.console import Console

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line
from recipe.shape_grpo.common.overrides import override
from recipe.shape_grpo.common.run_folder import ROLLOUTS, SAMPLES
from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings
from recipe.shape_grpo.policies.warm_start import train_policy
from recipe.shape_grpo.report.convergence import median_step, steps_to_baseline
from recipe.shape_grpo.report.figures import Painter
from recipe.shape_grpo.report.results import BASELINE, WINDOW, Results, read_results
from recipe.shape_grpo.report.statistics import mean_over_seeds
from recipe.shape_grpo.report.tables import Table
from recipe.shape_grpo.runs.launch import train
from recipe.shape_grpo.tasks.movielens import TaskSettings, prepare
from shape_grpo.methods import METHODS

STUDY = Path(__file__).parent / "results/quickstart"
"""Archive of the quickstart's runs with more seeds."""

QUICK = ["trainer.total_training_steps=12", "trainer.test_freq=12"]
POLICY = PolicySettings()
QUICK_POLICY = PolicySettings(steps=300)


def run_overrides(task: Path) -> list[str]:
    """Return the Hydra overrides that train the policy in the task's folder on the task."""
    overrides = ["+backend=cpu", "+task=movielens", "+scale=quickstart"]
    return [*overrides, override("dataset.folder", task)]


def make_task_and_policy(
    task: Path,
    console: Console,
    *,
    ratings: str | None = None,
    policy: PolicySettings = POLICY,
) -> None:
    """Prepare the task in its folder, and warm-start the policy beside it.

    Args:
        task: The task's folder.
        console: Console for progress.
        ratings: Folder with MovieLens data; None: MovieLens-100k.
        policy: Settings of the policy.
    """
    prepare(task, TaskSettings(ratings=ratings))
    train_policy(task, task / "policy", policy, console)


def reward_table(
    results: Results, study: Results | None = None, levels: Mapping[str, float] | None = None
) -> Table:
    """Return the held-out reward at start, midway and end, and the steps to GRPO's final value.

    Args:
        results: One run per method.
        study: Runs of other seeds.
        levels: Name to reward of random, fixed and ideal sets.
    """
    rows = []
    for setup, method, _ in results.cells():
        curve = results.curves(setup, method, "held_out").iloc[:, 0]
        midway = abs(curve.index - curve.index[-1] / 2).argmin()
        row = {
            "task": setup,
            "method": method,
            "held-out, start": f"{curve.iloc[0]:.3f}",
            "held-out, midway": f"{curve.iloc[midway]:.3f}",
            "held-out, end": f"{curve.iloc[-1]:.3f}",
        }
        if study is not None:
            mean = mean_over_seeds(ends) if len(ends := _ends(study, method)) > 1 else None
            row["end over seeds, 95%"] = f"{mean.low:.2f} to {mean.high:.2f}" if mean else "-"
        if BASELINE in results.methods:
            reached = steps_to_baseline(results, setup, method)
            row["training: steps to GRPO's final value"] = median_step(reached)
        rows.append(row)
    caption = _how_to_read(results, study, levels)
    return Table("quickstart", "Best-of-set reward", caption, pd.DataFrame(rows))


def _ends(study: Results, method: str) -> pd.Series:
    return study.runs.loc[study.runs["method"] == method, "final"]


def _how_to_read(
    results: Results, study: Results | None, levels: Mapping[str, float] | None
) -> str:
    """Return an explanation of the table's numbers, and of what one seed can show."""
    words = [
        "Held-out: sampled answers to test prompts. All methods start from one policy; their start "
        "values differ by sampling alone."
    ]
    if BASELINE in results.methods:
        words.append(f"Training: the mean of the last {WINDOW} steps' rollouts.")
    if levels:
        known = ", ".join(f"{name} {reward:.2f}" for name, reward in levels.items())
        words.append(
            f"For comparison, sets that are {known} (fixed: the best one set for all test viewers, "
            "chosen with their ratings; ideal: the best film of each viewer)."
        )
    compared = [_ends(study, method) for method in results.methods] if study else []
    if any(len(ends) > 1 for ends in compared):
        spread = max(ends.std() for ends in compared if len(ends) > 1)
        words.append(
            "One seed shows that a method learns, and not which method learns faster: runs of one "
            f"method scatter by {spread:.2f} (standard deviation over {max(map(len, compared))} "
            "seeds). The bands of the picture show the mean of these seeds."
        )
    return " ".join(words)


def draw_curves(results: Results, output: Path, study: Results | None = None) -> Path:
    """Draw the runs' curves as PNG and SVG; return the PNG's path."""
    source = "Lines: one run per method."
    seeds = max(len(_ends(study, method)) for method in results.methods) if study else 0
    if seeds > 1:
        source += f" Bands: 95% intervals of the mean of {seeds} other seeds, by Student's t."
    Painter(results, output, source, study).rewards("curves")
    return output / "curves.png"


def command() -> CommandParser:
    """Return the options of the quickstart."""
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
    """Run the quickstart."""
    options = command().parse_args(arguments)
    name = "quickstart-quick" if options.quick else "quickstart"
    output = options.output or Path("outputs") / name
    console = Console()
    policy = QUICK_POLICY if options.quick else POLICY
    methods = ["shape_grpo"] if options.quick else options.methods
    overrides = [*run_overrides(output / "task"), *(QUICK if options.quick else [])]
    with failing_in_one_line("quickstart", output):
        make_task_and_policy(output / "task", console, ratings=options.ratings, policy=policy)
        for method in methods:
            run = output / method
            with_rollouts = [*overrides, override("trainer.rollout_data_dir", run / ROLLOUTS)]
            train(method, with_rollouts, run, console=console, verbose=options.verbose)
        results = read_results(output / method for method in methods)
    # The study's runs have MovieLens-100k and all steps.
    study = None if options.quick or options.ratings else read_results([STUDY])
    levels = json.loads((output / "task/summary.json").read_text())["test_levels"]
    picture = draw_curves(results, output, study)
    reward_table(results, study, levels).print(console)
    if options.quick:
        console.print(
            f"--quick: a few steps by {methods[0]} show that the pipeline runs. They do not show "
            "how fast it learns or how it compares: run without --quick."
        )
    console.print(
        f"Picture: {picture}\nResponses with their credit: {output}/*/{SAMPLES}\n"
        f"Logs and metrics: {output}/*/"
    )


if __name__ == "__main__":
    main()
