"""Runs the cells of a sweep that are not done: one or several at a time, or on a Ray cluster.

A sweep may be killed at any time and started again. Its commands end with it: each gets SIGTERM
when its parent dies, and inherits a lock on the sweep's folder, which the next sweep waits for.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from recipe.shape_grpo.common.locks import LOCK, end_with_parent
from recipe.shape_grpo.sweep.cells import Cell

LOG = "sweep.log"


@contextmanager
def locked(output: Path, console: Console) -> Iterator[int]:
    """Lock the folder for one sweep; yield the lock's descriptor, which its commands inherit."""
    output.mkdir(parents=True, exist_ok=True)
    lock = os.open(output / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.print(
                f"Waiting for another sweep into {output}, or for processes that it left."
            )
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def run_command(command: tuple[str, ...], log: Path, lock: int | None = None) -> int:
    """Run one command with its output in a file, and return its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        return subprocess.run(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
            check=False,
        ).returncode


def run_here(
    todo: list[Cell], output: Path, jobs: int, lock: int, finished: Callable[[Cell, int], None]
) -> None:
    """Run cells on this machine, ``jobs`` at a time; pass each exit code to ``finished``."""
    with ThreadPoolExecutor(jobs) as pool:

        def submit(cell: Cell) -> Future[int]:
            return pool.submit(run_command, cell.command, output / cell.name / LOG, lock)

        futures = {submit(cell): cell for cell in todo}
        for future in as_completed(futures):
            finished(futures[future], future.result())


def run_on_ray(todo: list[Cell], output: Path, finished: Callable[[Cell, int], None]) -> None:
    """Run cells as tasks of one CPU each, on the cluster that `ray.init` finds or a local one.

    The cluster's machines must see this folder and ``output`` at the same paths.
    """
    import ray

    ray.init(log_to_driver=False, include_dashboard=False)
    remote = ray.remote(num_cpus=1)(run_command)
    waiting = {remote.remote(c.command, (output / c.name / LOG).resolve()): c for c in todo}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        finished(waiting.pop(ready), ray.get(ready))
    ray.shutdown()
