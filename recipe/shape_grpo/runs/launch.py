"""Runs verl's trainer for the CPU scripts: quiet, with progress, its log in a file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
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
            done = _steps_done(process, run)
            if verbose:
                process.wait()
            elif console.is_terminal:
                _show_bar(done, name, steps, console)
            else:
                _print_lines(done, name, steps, console)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    if process.returncode != 0:
        tail = "" if verbose else _end_of_log(run / LOG)
        raise TrainingFailed(f"{name} failed (exit {process.returncode}).\n{tail}")


def _steps_done(process: subprocess.Popen[bytes], run: Path) -> Iterator[int]:
    """The number of steps done, each time it has grown, until the process ends."""
    announced = -1
    while process.poll() is None:
        time.sleep(1)
        done = max(read_metrics(run), default=-1)
        if done > announced:
            yield done
            announced = done


def _show_bar(done: Iterable[int], name: str, steps: int, console: Console) -> None:
    """Progress on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{name}: {STARTING}", total=None)
        for step in done:
            if progress.tasks[bar].total is None:
                progress.reset(bar, total=steps, description=f"{name}: training")
            progress.update(bar, completed=step)


def _print_lines(done: Iterable[int], name: str, steps: int, console: Console) -> None:
    """Progress in a log: about six lines a run."""
    console.print(f"{name}: {STARTING}")
    started = time.monotonic()
    first: tuple[int, float] | None = None
    printed = -1
    for step in done:
        now = time.monotonic()
        first = first or (step, now)
        if step // (steps / 6) == printed // (steps / 6):
            continue
        left = ""
        if first[0] < step < steps:
            per_step = (now - first[1]) / (step - first[0])
            left = f", about {per_step * (steps - step):.0f} s left"
        console.print(f"{name}: step {step} of {steps} after {now - started:.0f} s{left}")
        printed = step


def _end_of_log(log: Path, lines: int = 25) -> str:
    text = _ANSI.sub("", log.read_text(errors="replace"))
    return "\n".join(text.splitlines()[-lines:]) + f"\nThe whole log: {log}"
