"""A long run of the real pipeline on the CPU: memory of every process, step time, file sizes.

    python -m recipe.shape_grpo.bench long_run

500 steps on the quickstart's task and policy, with a learning rate of 0: the responses keep their
length, so any growth is a leak. Slopes are least-squares fits over the steps after the warm-up.
"""

import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from scipy.stats import linregress

from recipe.shape_grpo.bench.pipeline import CONSTANT_POLICY
from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.quickstart import make_task_and_policy, run_overrides
from recipe.shape_grpo.runs.launch import train
from recipe.shape_grpo.runs.processes import session_processes

SECONDS = 5
"""Seconds between two measurements."""
MEBI = 2**20


class MemoryWatch:
    """Thread that measures the resident memory of the processes of a run launched by this process.

    Attributes:
        seen: Pairs of step and bytes, by (name, pid).
        bytes_written: Pairs of step and size of the run's folder.
    """

    def __init__(self, run: Path) -> None:
        self.seen: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
        self.bytes_written: list[tuple[int, int]] = []
        self._run = run
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            step = max(read_metrics(self._run), default=0)
            files = [file for file in self._run.rglob("*") if file.is_file()]
            self.bytes_written.append((step, sum(file.stat().st_size for file in files)))
            for child in psutil.Process().children():
                for process in session_processes(child.pid):
                    self._note(process, step)

    def _note(self, process: psutil.Process, step: int) -> None:
        try:
            words = process.cmdline()[0].split() or [process.name()]
            self.seen[Path(words[0]).name, process.pid].append((step, process.memory_info().rss))
        except (psutil.Error, IndexError):
            pass


def run(steps: int = 500, warm_up: int = 100, output: Path = Path("outputs/quickstart")) -> None:
    """Print memory, step time and file sizes of a long run of the real pipeline.

    Args:
        steps: Steps of the run.
        warm_up: Steps at the start that are left out.
        output: Folder with the quickstart's task.
    """
    console = Console(width=100)
    make_task_and_policy(output / "task", console)
    folder = output / "bench-long-run"
    overrides = [
        *run_overrides(output / "task"),
        *CONSTANT_POLICY,
        f"trainer.total_training_steps={steps}",
        # So that a step takes about a second.
        "data.train_batch_size=4",
        "actor_rollout_ref.rollout.n=4",
    ]
    with MemoryWatch(folder) as watch:
        train("shape_grpo", overrides, folder, console=console)
    table = Table(title=f"{steps} steps, without the first {warm_up}")
    for heading in ("", "first", "last", "slope per 100 steps"):
        table.add_column(heading, justify="right")
    for (name, _), pairs in sorted(watch.seen.items()):
        _add_row(table, f"{name}, MiB", pairs, warm_up, MEBI)
    _add_row(table, "the run's folder, MiB", watch.bytes_written, warm_up, MEBI)
    times = [(step, data["timing_s/step"]) for step, data in read_metrics(folder).items()]
    _add_row(table, "seconds per step", times, warm_up)
    console.print(table)


def _add_row(
    table: Table, name: str, pairs: Sequence[tuple[int, float]], warm_up: int, unit: int = 1
) -> None:
    """Add a row of values after the warm-up, unless the process ended before."""
    after = [(step, value / unit) for step, value in pairs if step > warm_up]
    if len({step for step, _ in after}) < 3:
        return
    steps, values = zip(*after, strict=True)
    growth = 100 * linregress(steps, values).slope
    table.add_row(name, f"{values[0]:.2f}", f"{values[-1]:.2f}", f"{growth:+.3f}")
