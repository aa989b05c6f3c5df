"""The real pipeline on the CPU: a step of shape_grpo beside a step of verl's own grpo.

    python -m recipe.shape_grpo.bench pipeline

Two successive runs on the quickstart's task and policy, with a learning rate of 0: the policy does
not change, so both write responses of the same lengths. Takes about ten minutes.
"""

from pathlib import Path
from statistics import mean, median

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.quickstart import make_task_and_policy, run_overrides
from recipe.shape_grpo.runs.launch import train

CONSTANT_POLICY = [
    "actor_rollout_ref.actor.optim.lr=0",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
]
"""Overrides of a run whose policy, and thus its response lengths, do not change."""

PARTS = ("step", "gen", "old_log_prob", "adv", "update_actor")
WARM_UP = 2
"""Number of first steps that are left out."""


def step_times(method: str, output: Path, steps: int, console: Console) -> dict[str, list[float]]:
    """Return the seconds of each part of each step of one run."""
    run = output / f"bench-{method}"
    overrides = [
        *run_overrides(output / "task"),
        *CONSTANT_POLICY,
        f"trainer.total_training_steps={steps}",
    ]
    train(method, overrides, run, console=console)
    measured = [data for step, data in read_metrics(run).items() if step > WARM_UP]
    times = {part: [data[f"timing_s/{part}"] for data in measured] for part in PARTS}
    times["response tokens"] = [data["response_length/mean"] for data in measured]
    return times


def run(steps: int = 30, output: Path = Path("outputs/quickstart")) -> None:
    """Print the time of a step of shape_grpo beside a step of verl's own grpo.

    Args:
        steps: Steps of each run.
        output: Folder with the quickstart's task.
    """
    console = Console(width=100)
    make_task_and_policy(output / "task", console)
    methods = ("grpo", "shape_grpo")
    grpo, ours = (step_times(m, output, steps, console) for m in methods)
    table = Table(title=f"Seconds per step, median of {steps - WARM_UP} steps")
    for heading in ("", *methods, "difference", "share of a step"):
        table.add_column(heading, justify="right")
    for part in PARTS:
        first, second = median(grpo[part]), median(ours[part])
        share = (second - first) / median(grpo["step"])
        table.add_row(
            part, f"{first:.3f}", f"{second:.3f}", f"{second - first:+.3f}", f"{share:+.1%}"
        )
    lengths = (f"{mean(times['response tokens']):.1f}" for times in (grpo, ours))
    table.add_row("response tokens", *lengths)
    console.print(table)
