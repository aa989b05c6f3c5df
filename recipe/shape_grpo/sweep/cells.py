"""Every task of the paper by every method, two steps each, without a GPU.

    ./run_scripts/grid_cpu.sh [--problems DS1000.jsonl] [--tasks TASK ...] [--methods METHOD ...]

Prepares each task small, makes it a tiny policy, and trains that through the very configurations
that the GPUs get. It shows that they run; two steps teach nothing. About four minutes a cell.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.policies.tiny_qwen3 import TINY, train_tokenizer
from recipe.shape_grpo.policies.warm_start import train_policy
from recipe.shape_grpo.runs.launch import TrainingFailed, read_metrics, train_on_cpu
from recipe.shape_grpo.tasks import aclsum, ds1000, netflix

TASKS = ("netflix", "netflix_history", "aclsum", "ds1000")
METHODS = ("grpo", "winner_takes_all", "shape_grpo")
K = 3
STEPS = 2
NETFLIX = netflix.TaskSettings(
    candidates=K, films=150, viewers=200, min_ratings=10, test_viewers=8, factors=8, epochs=3
)
COLUMNS = {
    "set reward": "critic/score/mean",
    "candidates": "shape_grpo/num_candidates",
    "errors": "shape_grpo/reward_errors",
    "gradient": "actor/grad_norm",
}


def prepare_task(
    task: str, folder: Path, console: Console, *, problems: str | None, ratings: str | None
) -> None:
    """A small version of ``task`` and a policy for it.

    Args:
        task: One of `TASKS`.
        folder: Where to write.
        console: Where progress goes.
        problems: File of DS-1000 problems; None: the hub's.
        ratings: Folder of ratings; None: MovieLens-100k.
    """
    if task.startswith("netflix"):
        history = 5 if task == "netflix_history" else 0
        netflix.prepare(folder, replace(NETFLIX, history=history, ratings=ratings))
    elif task == "aclsum":
        # Any tokenizer will do to count by; the policy's own is made from the prompts.
        train_tokenizer(["a summary of a paper"], 300).save_pretrained(folder / "tokenizer")
        counted = aclsum.TaskSettings(
            tokenizer=str(folder / "tokenizer"), candidates=K, max_prompt_tokens=2048
        )
        aclsum.prepare(folder, counted)
    else:
        ds1000.prepare(folder, ds1000.TaskSettings(problems=problems, candidates=K))
    train_policy(folder, folder / "policy", TINY, console)


def judged_by(model: Path) -> list[str]:
    """Overrides by which `model` scores summaries on verl's own reward-model server, on a GPU of
    its own in Ray's book-keeping. It knows nothing, so it is held to the scores that there are."""
    kwargs = "reward.custom_reward_function.reward_kwargs"
    return [
        "reward.reward_model.enable=true",
        f"reward.reward_model.model_path={model}",
        "reward.reward_model.rollout.dtype=float32",
        f"{kwargs}.answer=choice",
        f"+{kwargs}.request={{temperature:1.0}}",
        "ray_kwargs.ray_init.num_gpus=2",
        "ray_kwargs.ray_init.num_cpus=16",
    ]


def run_cell(task: str, method: str, folder: Path, console: Console) -> list[dict[str, float]]:
    """Train for `STEPS` steps; the metrics of each.

    Raises:
        TrainingFailed: The run ended with an error.
    """
    run = folder / method
    overrides = [
        f"+task={task}",
        f"+method={method}",
        "+scale=tiny",
        f"dataset.candidates={K}",
        f"dataset.folder={folder}",
        "trainer.test_freq=-1",
        f"trainer.default_local_dir={run}/checkpoints",
        *(judged_by(folder / "policy") if task == "aclsum" else ()),
    ]
    train_on_cpu(f"{task} by {method}", overrides, run, steps=STEPS, console=console)
    return [read_metrics(run)[step] for step in range(1, STEPS + 1)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="grid_cpu.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--problems", help="DS-1000's problems (jsonl); without it, the hub's")
    parser.add_argument("--ratings", help="folder with ratings; without it, MovieLens-100k")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--output", type=Path, default=Path("outputs/grid"))
    options = parser.parse_args(arguments)
    console = Console()
    table = Table(title=f"Step {STEPS} of each cell")
    for heading in ("task", "method", *COLUMNS):
        table.add_column(heading, no_wrap=heading in ("task", "method"))
    sources = {"problems": options.problems, "ratings": options.ratings}
    try:
        for task in options.tasks:
            prepare_task(task, options.output / task, console, **sources)
        for task, method in itertools.product(options.tasks, options.methods):
            last = run_cell(task, method, options.output / task, console)[-1]
            cells = (f"{last[key]:.3g}" if key in last else "-" for key in COLUMNS.values())
            table.add_row(task, method, *cells)
    except (TrainingFailed, OSError, RuntimeError, ValueError) as error:
        console.print(table)
        sys.exit(f"grid: {error}")
    console.print(table)


if __name__ == "__main__":
    main()
