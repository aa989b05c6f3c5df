"""The quickstart: a small policy learns to recommend films, by shape_grpo and by grpo.

    ./run_scripts/quickstart_cpu.sh [--quick] [--verbose] [--ratings DIR]

Prepares real ratings as a task, warm-starts a policy of about 1M parameters, trains it by both
estimators through verl (real Ray, FSDP and vLLM, on the CPU), and ends with a table and a picture.
What an earlier run left in the output folder is used again where its settings are the same.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.files import is_current, write_stamp
from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings
from recipe.shape_grpo.policies.warm_start import train_policy
from recipe.shape_grpo.report import Curve, plot_curves, print_table, read_curve
from recipe.shape_grpo.runs.launch import METRICS, TrainingFailed, train_on_cpu
from recipe.shape_grpo.tasks.movielens import TaskSettings, prepare

METHODS = {
    "shape_grpo": "algorithm.adv_estimator=shape_grpo",
    "grpo": "algorithm.adv_estimator=grpo",
}


@dataclass(frozen=True)
class TrainingSettings:
    """One training run of the quickstart.

    Attributes:
        steps: Updates of the policy.
        validate_every: Steps between two measurements on the test viewers.
    """

    steps: int = 48
    validate_every: int = 24


FULL = TrainingSettings()
QUICK = TrainingSettings(steps=12, validate_every=12)
QUICK_POLICY_STEPS = 300


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="quickstart_cpu.sh", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few steps by shape_grpo alone: shows that it runs"
    )
    parser.add_argument("--verbose", action="store_true", help="show all that verl prints")
    parser.add_argument("--ratings", help="folder with MovieLens data; without it, MovieLens-100k")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args(arguments)
    name = "quickstart-quick" if options.quick else "quickstart"
    output = options.output or Path("outputs") / name
    console = Console()

    task = TaskSettings(ratings=options.ratings)
    policy = PolicySettings(steps=QUICK_POLICY_STEPS) if options.quick else PolicySettings()
    training = QUICK if options.quick else FULL
    try:
        prepare(output / "task", task)
        train_policy(output / "task", output / "policy", policy, console)
        curves = {
            method: train(method, output, task, policy, training, console, options.verbose)
            for method in (["shape_grpo"] if options.quick else METHODS)
        }
    except (TrainingFailed, FileNotFoundError, RuntimeError, ValueError) as error:
        sys.exit(f"quickstart: {error}")
    picture = output / "curves.png"
    plot_curves(curves, picture)
    print_table(curves, console)
    if options.quick:
        console.print(
            f"--quick: {training.steps} steps by shape_grpo alone show that the pipeline runs, "
            "and nothing of how fast it learns or how it compares with grpo: run without --quick."
        )
    console.print(f"Picture: {picture}\nLogs and metrics: {output}/*/")


def task_overrides(task: Path, policy: Path) -> list[str]:
    """Hydra overrides that train the policy in one folder on the task in another."""
    return [
        "+task=quickstart",
        f"data.train_files={task}/train.parquet",
        f"data.val_files={task}/test.parquet",
        f"actor_rollout_ref.model.path={policy}",
        f"+reward.custom_reward_function.reward_kwargs.ratings={task}/ratings.npz",
    ]


def train(
    method: str,
    output: Path,
    task: TaskSettings,
    policy: PolicySettings,
    training: TrainingSettings,
    console: Console,
    verbose: bool,
) -> Curve:
    """Train by ``method`` unless that very run is there, and return its validation curve."""
    run = output / method
    settings = {
        "task": asdict(task),
        "policy": asdict(policy),
        "training": asdict(training),
        "config": (Path(__file__).parent / "config/task/quickstart.yaml").read_text(),
    }
    if is_current(run, settings, [METRICS]):
        console.print(f"{method}: reusing {run}")
        return read_curve(run)
    overrides = [
        *task_overrides(output / "task", output / "policy"),
        METHODS[method],
        f"trainer.test_freq={training.validate_every}",
        f"trainer.experiment_name={method}",
        f"trainer.default_local_dir={run}/checkpoints",
    ]
    train_on_cpu(method, overrides, run, steps=training.steps, console=console, verbose=verbose)
    write_stamp(run, settings)
    return read_curve(run)


if __name__ == "__main__":
    main()
