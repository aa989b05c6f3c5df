"""``python -m recipe.shape_grpo.report RUNS ... [--output DIR]``: tables, figures, one HTML page.

``python -m recipe.shape_grpo.report credit-map RUN --step N``: the credit of one step's responses.

``python -m recipe.shape_grpo.report sets RUN``: repeated candidates, and distinct right ones.

``python -m recipe.shape_grpo.report archive RUNS ... --output DIR``: the runs in two small files.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from recipe.shape_grpo.common.command import CommandParser, failing_in_one_line

if TYPE_CHECKING:
    from recipe.shape_grpo.report.credit_map import GroupMap, StepMap
    from recipe.shape_grpo.report.results import Results

PROG = "python -m recipe.shape_grpo.report"
PAGE = "report.html"
MAPS = 12
"""Maximum number of credit maps in a page; there is one per method and task with rollouts."""


def main(arguments: list[str]) -> None:
    """Run the command that the first argument names; by default, write a report."""
    commands = {"credit-map": write_map, "sets": write_sets, "archive": write_runs}
    command = commands.get(arguments[0]) if arguments else None
    with failing_in_one_line("report"):
        if command is None:
            write_report(arguments, Console())
        else:
            command(arguments[1:], Console())


# Each command imports its modules itself, so that --help and a wrong option answer at once.


def write_report(arguments: list[str], console: Console) -> None:
    """Write tables, figures and a page, and print the first table."""
    parser = CommandParser(
        prog=PROG,
        description="Tables, figures and one HTML page from run folders.",
        epilog=f"{PROG} credit-map RUN --step N shows the credit in one step of a run; "
        f"{PROG} sets RUN shows repeated candidates; {PROG} archive "
        "RUNS --output DIR packs many runs. Each has its own --help.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders; runs are found below them")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/report"), help="folder for all files"
    )
    parser.add_argument(
        "--split-by", nargs="+", default=[], metavar="SETTING",
        help="further settings whose values are not to be compared with each other",
    )  # fmt: skip
    parser.add_argument("--command", help="command to name in the report instead of this one")
    options = parser.parse_args(arguments)
    from recipe.shape_grpo.report import page
    from recipe.shape_grpo.report.figures import Painter
    from recipe.shape_grpo.report.results import read_results
    from recipe.shape_grpo.report.tables import all_tables

    output = options.output
    results = read_results(options.runs, options.split_by)
    output.mkdir(parents=True, exist_ok=True)
    source = _source(results, options.runs, options.command or f"{PROG} {shlex.join(arguments)}")
    tables = all_tables(results)
    for table in tables:
        table.write(output)
    painter = Painter(results, output, source)
    drawing = track(
        painter.figures(), "drawing", total=painter.count, console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    page.write_report(
        output / PAGE,
        results=results,
        tables=tables,
        figures=list(drawing),
        maps=_maps(results),
        source=source,
    )
    tables[0].print(console)
    for reason, folders in results.left_out.items():
        console.print(f"{len(folders)} left out: {reason}.")
    console.print(f"Page: {output / PAGE}", soft_wrap=True)


def _source(results: Results, roots: list[Path], command: str) -> str:
    sizes = results.runs.groupby(["setup", "method"]).size()
    seeds = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    word = "seed" if seeds == "1" else "seeds"
    where = ", ".join(map(str, roots))
    return f"{len(results.runs)} runs below {where}, {seeds} {word} per method. Made by: {command}"


def _maps(results: Results) -> list[tuple[str, StepMap, GroupMap]]:
    """Return the last step of the first run with rollouts of each method and setup."""
    from recipe.shape_grpo.report.rollouts import read_rollouts, rollout_files

    maps: list[tuple[str, StepMap, GroupMap]] = []
    for (setup, method), runs in results.runs.groupby(["setup", "method"]):
        for folder in map(Path, runs["folder"]):
            files = rollout_files(folder)
            if not files or not read_rollouts(files[max(files)]) or len(maps) == MAPS:
                continue
            # Imported late: it imports torch, which a report without rollouts does not need.
            from recipe.shape_grpo.report.credit_map import map_step, telling_responses

            step_map = map_step(folder)
            maps.append((f"{method} on {setup}", step_map, telling_responses(step_map)))
            break
    return maps


def write_map(arguments: list[str], console: Console) -> None:
    """Write the page of one step's credit map."""
    parser = CommandParser(
        prog=f"{PROG} credit-map",
        description="The responses of one step, coloured by the advantage of each candidate.",
    )
    parser.add_argument("run", type=Path, help="a run folder with rollouts/STEP.jsonl")
    parser.add_argument("--step", type=int, help="default: the last step that has rollouts")
    parser.add_argument("--prompts", type=int, default=8, help="number of prompts in the page")
    parser.add_argument("--output", type=Path, help="default: RUN/credit_map_STEP.html")
    options = parser.parse_args(arguments)
    from recipe.shape_grpo.report.credit_map import map_step
    from recipe.shape_grpo.report.page import write_credit_map

    step_map = map_step(options.run, options.step, options.prompts)
    path = options.output or options.run / f"credit_map_{step_map.step}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_credit_map(path, step_map, f"{PROG} credit-map {shlex.join(arguments)}")
    console.print(f"Page: {path}", soft_wrap=True)


def write_sets(arguments: list[str], console: Console) -> None:
    """Print the repeated candidates of a run's responses."""
    parser = CommandParser(prog=f"{PROG} sets", description="Candidates that responses repeat.")
    parser.add_argument("run", type=Path, help="a run folder with rollouts/STEP.jsonl")
    options = parser.parse_args(arguments)
    from recipe.shape_grpo.report.sets import print_sets

    print_sets(options.run, console)


def write_runs(arguments: list[str], console: Console) -> None:
    """Write an archive of runs."""
    parser = CommandParser(prog=f"{PROG} archive", description="Many runs in two small files.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders; runs are found below them")
    parser.add_argument("--output", type=Path, required=True, help="folder for both files")
    parser.add_argument("--every", type=int, default=1, help="keep every N-th step")
    options = parser.parse_args(arguments)
    from recipe.shape_grpo.report.archive import write_archive
    from recipe.shape_grpo.report.results import HOW_TO_MAKE, read_runs

    facts, curves, left_out = read_runs(options.runs)
    if not facts:
        raise FileNotFoundError(
            f"no whole run below {', '.join(map(str, options.runs))}. {HOW_TO_MAKE}"
        )
    written = write_archive(facts, curves, options.output, options.every)
    console.print(
        f"{written} runs in {options.output}, {sum(map(len, left_out.values()))} left out, "
        f"{len(facts) - written} given twice.",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
