"""A tiny policy for one of the paper's tasks, for a machine without a GPU.

    python -m recipe.shape_grpo.policies.warm_start outputs/netflix-k5 --k 5

It has learnt to answer the task's prompts with K candidates that look like answers: the format, and
nothing of which answer is right. Good for seeing the task's code run, and no more.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from recipe.shape_grpo.policies.tiny_qwen3 import (
    Example,
    PolicySettings,
    answer_text,
    make_policy,
    save_policy,
)
from recipe.shape_grpo.tasks.ds1000 import SUMS

TINY = PolicySettings(width=64, positions=8192, steps=150, batch=4)
PROMPTS = 32
"""The policy learns from so many prompts; the more, the longer its tokenizer takes."""


def sample_candidates(task: Path, rows: pd.DataFrame) -> list[str]:
    """What a candidate of this task may look like, right or wrong."""
    source = rows["data_source"].iloc[0]
    if source == "ds1000":
        return list(SUMS)
    if source == "aclsum":
        return [row["ground_truth"] for row in rows["reward_model"]]
    return np.load(task / "ratings.npz")["titles"].tolist()


def train_task_policy(task: Path, output: Path, k: int, console: Console) -> None:
    """Train a policy for the prepared task in the folder `task`.

    Raises:
        FileNotFoundError: `task` holds no task.
    """
    if not (task / "train.parquet").is_file():
        raise FileNotFoundError(f"no train.parquet in {task}: prepare the task first")
    rows = pd.read_parquet(task / "train.parquet").head(PROMPTS)
    candidates = sample_candidates(task, rows)
    prompts = [list(prompt) for prompt in rows["prompt"]]
    rng = np.random.default_rng(0)

    def draw(count: int) -> list[Example]:
        return [
            (prompts[rng.integers(len(prompts))], answer_text(list(rng.choice(candidates, k))))
            for _ in range(min(count, 256))
        ]

    model, tokenizer = make_policy(draw, TINY, console)
    save_policy(model, tokenizer, output)
    console.print(f"policy: {model.num_parameters() / 1e6:.2f}M parameters -> {output}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="task_policy", description=__doc__.splitlines()[0])
    parser.add_argument("task", type=Path, help="folder of the prepared task")
    parser.add_argument("--k", type=int, required=True, help="as the task was prepared")
    options = parser.parse_args(arguments)
    try:
        train_task_policy(options.task, options.task / "policy", options.k, Console())
    except FileNotFoundError as error:
        sys.exit(f"task_policy: {error}")


if __name__ == "__main__":
    main()
