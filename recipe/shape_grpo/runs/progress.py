"""Progress of a run, from the metrics of verl's file logger: a bar, or lines in a log."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.progress import progress_bar
from recipe.shape_grpo.common.run_folder import read_metrics


def show_progress(
    process: subprocess.Popen[bytes],
    run: Path,
    name: str,
    starting: str,
    steps: int,
    console: Console,
) -> None:
    """Show progress until the process ends.

    Args:
        process: The training process.
        run: The run's folder.
        name: Name of the run.
        starting: Description of the time before the first step.
        steps: Total number of training steps.
        console: Console for progress.
    """
    done = _steps_done(process, run)
    if console.is_terminal:
        _show_bar(done, f"{name}: {starting}", f"{name}: training", steps, console)
    else:
        console.print(f"{name}: {starting}")
        _print_lines(done, name, steps, console)


def _steps_done(process: subprocess.Popen[bytes], run: Path) -> Iterator[int]:
    """Yield the number of finished steps whenever it grows, until the process ends."""
    done = announced = -1
    while process.poll() is None:
        time.sleep(1)
        # A line that a full disk cut off must not end the run.
        with suppress(ValueError):
            done = max(read_metrics(run), default=-1)
        if done > announced:
            yield done
            announced = done


def _show_bar(done: Iterable[int], before: str, during: str, steps: int, console: Console) -> None:
    """Show progress as a bar on a terminal."""
    with progress_bar(console) as progress:
        bar = progress.add_task(before, total=None)
        for step in done:
            if progress.tasks[bar].total is None:
                progress.reset(bar, total=steps, description=during)
            progress.update(bar, completed=step)


def _print_lines(done: Iterable[int], name: str, steps: int, console: Console) -> None:
    """Print about six lines of progress per run."""
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
