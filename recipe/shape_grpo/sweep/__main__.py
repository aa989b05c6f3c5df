"""``python -m recipe.shape_grpo.sweep SPEC --output FOLDER``: methods x tasks x K x rates x seeds.

Runs the cells that are not finished. A failed cell is reported with its log, and the sweep
continues. A sweep that was killed can be started again; finished cells are not run again.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line
from recipe.shape_grpo.common.progress import progress_bar
from recipe.shape_grpo.common.run_folder import held_out_reward, read_metrics
from recipe.shape_grpo.sweep.cells import (
    SPECIFICATIONS,
    Cell,
    cells,
    preparations,
    read_sweep,
)
from recipe.shape_grpo.sweep.run import LOG, locked, run_command, run_here, run_on_ray


def prepare(commands: list[tuple[str, ...]], output: Path, lock: int, console: Console) -> None:
    """Make all data and policies before the first run, so that a missing source is found early.

    Raises:
        RuntimeError: A command failed.
    """
    for number, command in enumerate(commands, start=1):
        console.print(f"preparing {number} of {len(commands)}: {' '.join(command[1:3])}")
        log = output / "data" / f"prepare-{number}.log"
        if run_command(command, log, lock):
            message = (log.read_text().strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"python {' '.join(command)} failed: {message}\nLog: {log}")


def last_reward(run: Path) -> float:
    """Return a run's last held-out reward, else its last training reward, else NaN."""
    found = float("nan")
    for metrics in read_metrics(run).values():
        held_out = held_out_reward(metrics)
        found = metrics.get("critic/score/mean", found) if math.isnan(held_out) else held_out
    return found


def print_table(all_cells: list[Cell], output: Path, console: Console) -> int:
    """Print one row per cell, and return the number of cells that are not done."""
    table = Table(title=str(output))
    table.add_column("cell", overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column("last reward, mean", justify="right")
    table.add_column("state", overflow="fold")
    failed = 0
    for cell in all_cells:
        done = cell.is_done(output)
        failed += not done
        reward = f"{fmean(map(last_reward, cell.runs)):.3f}" if done else "-"
        state = "done" if done else f"failed, log: {output / cell.name / LOG}"
        table.add_row(cell.name, str(len(cell.runs)), reward, state)
    console.print(table)
    return failed


def main(arguments: list[str] | None = None) -> None:
    """Run a sweep; failed cells do not stop it."""
    parser = CommandParser(
        prog="python -m recipe.shape_grpo.sweep", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("sweep", help=f"{', '.join(SPECIFICATIONS)}, or the path of a file")
    parser.add_argument(
        "changes", nargs="*", help="changed fields, such as methods=[grpo,shape_grpo]"
    )
    parser.add_argument("--output", type=Path, help="default: outputs/sweep-NAME")
    parser.add_argument(
        "--jobs", type=int, default=1, help="number of cells run at a time, on this machine"
    )
    parser.add_argument("--ray", action="store_true", help="run cells as tasks of a Ray cluster")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    options = parser.parse_args(arguments)
    console = Console()
    output = options.output or Path("outputs") / f"sweep-{Path(options.sweep).stem}"
    with failing_in_one_line("sweep", output):
        specification = read_sweep(options.sweep, options.changes)
        all_cells = list(cells(specification, output))
        preparing = list(preparations(specification, output))
        if options.dry_run:
            for command in [*preparing, *(cell.command for cell in all_cells)]:
                console.print(f"python {' '.join(command)}", soft_wrap=True, highlight=False)
            return
        with locked(output, console) as lock:
            prepare(preparing, output, lock, console)
            todo = [cell for cell in all_cells if not cell.is_done(output)]
            with progress_bar(console) as progress:
                total = len(all_cells)
                bar = progress.add_task("cells", total=total, completed=total - len(todo))

                def finished(cell: Cell, code: int) -> None:
                    if code == 0:
                        cell.mark_done(output)
                    else:
                        console.print(f"failed: {cell.name}, log: {output / cell.name / LOG}")
                    progress.advance(bar)
                    if not console.is_terminal:
                        console.print(f"{progress.tasks[bar].completed:.0f} of {total} cells")

                if options.ray:
                    run_on_ray(todo, output, finished)
                else:
                    run_here(todo, output, options.jobs, lock, finished)
        failed = print_table(all_cells, output, console)
    if failed:
        sys.exit(f"sweep: {failed} of {len(all_cells)} cells failed")


if __name__ == "__main__":
    main()
