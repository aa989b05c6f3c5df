"""Runs verl's trainer for the CPU scripts: quiet, with progress, its log in a file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

METRICS = "metrics.jsonl"
LOG = "train.log"
STARTING = "starting Ray, FSDP and vLLM (two to three minutes on two cores)"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class TrainingFailed(RuntimeError):
    """verl ended with an error; the message holds the end of its log."""


def read_metrics(run: Path) -> dict[int, dict[str, Any]]:
    """Metrics that verl's file logger wrote into the folder ``run``, by step; step 0 is the
    validation before training."""
    path = run / METRICS
    if not path.exists():
        return {}
    lines = path.read_text().splitlines(keepends=True)
    # The last line may still be on its way to the disk.
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return {record["step"]: record["data"] for record in records}


def cpu_environment(metrics: Path) -> dict[str, str]:
    """Environment variables of a CPU run whose metrics go to the file ``metrics``."""
    return {
        "VERL_PLATFORM": "cpu",
        "VERL_FILE_LOGGER_PATH": str(metrics.resolve()),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": str(os.cpu_count()),
        # Models and data are on this machine; a hub out of reach would be asked again and again.
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def train_on_cpu(
    name: str,
    overrides: Sequence[str],
    run: Path,
    *,
    steps: int,
    console: Console,
    verbose: bool = False,
) -> None:
    """Run `main_shape_grpo` on the CPU backend until it ends.

    Args:
        name: What the progress line calls the run.
        overrides: Hydra overrides beside ``+backend=cpu`` and those for logging.
        run: Folder for the log, the metrics and hydra's own files.
        steps: Training steps.
        console: Where progress goes.
        verbose: Let verl write to the terminal instead of the log.

    Raises:
        TrainingFailed: The run ended with an error.
    """
    # Also when this process is asked to end: Ray must not train on without it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run.mkdir(parents=True, exist_ok=True)
    (run / METRICS).unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "recipe.shape_grpo.main_shape_grpo", "+backend=cpu"),
        f"trainer.total_training_steps={steps}",
        "trainer.logger=[file]",
        f"hydra.run.dir={run / 'hydra'}",
        *overrides,
    ]
    with (run / LOG).open("w") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **cpu_environment(run / METRICS)},
            stdin=subprocess.DEVNULL,
            stdout=None if verbose else log,
            stderr=None if verbose else subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _follow(process, name, run, steps, console, quiet=verbose)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if process.returncode != 0:
        tail = "" if verbose else _end_of_log(run / LOG)
        raise TrainingFailed(f"{name} failed (exit {process.returncode}).\n{tail}")


def _follow(
    process: subprocess.Popen[bytes],
    name: str,
    run: Path,
    steps: int,
    console: Console,
    *,
    quiet: bool,
) -> None:
    """Show the steps done and the time left until the process ends."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )
    started = training_since = time.monotonic()
    announced = -1
    plain = not (console.is_terminal or quiet)
    if plain:
        console.print(f"{name}: {STARTING}")
    with progress:
        bar = progress.add_task(f"{name}: {STARTING}", total=None)
        while process.poll() is None:
            time.sleep(1)
            done = max(read_metrics(run), default=-1)
            if done <= announced:
                continue
            if announced < 0:
                training_since = time.monotonic()
                progress.reset(bar, total=steps, description=f"{name}: training")
            progress.update(bar, completed=done)
            if plain and done // (steps / 6) > announced // (steps / 6):
                per_step = (time.monotonic() - training_since) / max(done, 1)
                left = f", about {per_step * (steps - done):.0f} s left" if 0 < done < steps else ""
                elapsed = time.monotonic() - started
                console.print(f"{name}: step {done} of {steps} after {elapsed:.0f} s{left}")
            announced = done


def _end_of_log(log: Path, lines: int = 25) -> str:
    text = _ANSI.sub("", log.read_text(errors="replace"))
    return "\n".join(text.splitlines()[-lines:]) + f"\nThe whole log: {log}"
