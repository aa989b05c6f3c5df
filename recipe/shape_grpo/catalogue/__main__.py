"""Training in this process, without Ray and vLLM; each seed leaves a run's folder, OUTPUT/seed-N.

    python -m recipe.shape_grpo.simulate catalogue --output OUTPUT [options]
    python -m recipe.shape_grpo.simulate language FOLDER --output OUTPUT [options]

`catalogue` trains small policies in a world of hidden tastes, all seeds at once; `language` trains
the policy in FOLDER/policy on the task in FOLDER.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.common.command import (
    CommandParser,
    add_settings,
    choose,
    failing_in_one_line,
)
from recipe.shape_grpo.common.methods import credit_options
from recipe.shape_grpo.runs.folder import begin_run, end_run, read_metrics, write_metrics
from recipe.shape_grpo.simulate import catalogue
from recipe.shape_grpo.simulate.catalogue import CatalogueSettings, Metrics


def main(arguments: list[str] | None = None) -> None:
    """Train, write the runs and print what they earned."""
    summary = (__doc__ or "").splitlines()[0]
    name, arguments = choose("simulate", list(COMMANDS), summary, arguments)
    COMMANDS[name](arguments)


def run_catalogue(arguments: list[str]) -> None:
    """The command `catalogue`."""
    summary = (catalogue.__doc__ or "").splitlines()[0]
    parser = CommandParser(prog="simulate catalogue", description=summary)
    parser.add_argument("--output", type=Path, required=True, help="folder of the seeds' folders")
    add_settings(parser, CatalogueSettings)
    options = parser.parse_args(arguments)
    console = Console()
    with failing_in_one_line(parser.prog):
        if options.method:
            parser.set_defaults(credit_options(options.method))
            options = parser.parse_args(arguments)
        values = options.as_dict()
        output = values.pop("output")
        settings = CatalogueSettings(**values)
        history = catalogue.train(settings, console)
        for seed, metrics in history.items():
            write_run(output / f"seed-{seed}", settings, seed, metrics)
    print_table(f"{settings.task}, {settings.name}", list(history.values()), console)
    console.print(f"Metrics: {output}/seed-*/", soft_wrap=True)


def run_language(arguments: list[str]) -> None:
    """The command `language`."""
    # Not for the other command, nor for its help: TRL takes seconds to import.
    from recipe.shape_grpo.simulate import language
    from recipe.shape_grpo.simulate.prepared_task import load_prepared_task

    summary = (language.__doc__ or "").splitlines()[0]
    parser = CommandParser(prog="simulate language", description=summary)
    parser.add_argument("task", type=Path, metavar="FOLDER", help="of the task and its policy")
    parser.add_argument("--output", type=Path, required=True, help="folder of the seeds' folders")
    add_settings(parser, language.LanguageSettings)
    values = parser.parse_args(arguments).as_dict()
    folder, output = values.pop("task"), values.pop("output")
    console = Console()
    with failing_in_one_line(parser.prog):
        settings = language.LanguageSettings(**values)
        task = load_prepared_task(folder, settings.candidates)
        language.train(task, settings, output, console)
    runs = [read_metrics(output / f"seed-{seed}") for seed in settings.seeds]
    print_table(f"{task.name}, {settings.method}", runs, console)
    console.print(f"Metrics: {output}/seed-*/", soft_wrap=True)


COMMANDS = {"catalogue": run_catalogue, "language": run_language}


def write_run(run: Path, settings: CatalogueSettings, seed: int, metrics: Metrics) -> None:
    """Write the folder of one seed's run; what an earlier one left there goes."""
    begin_run(run)
    for step, data in metrics.items():
        write_metrics(run, step, data)
    end_run(run, settings.run(seed), {"settings": asdict(settings)})


def print_table(name: str, runs: list[Metrics], console: Console) -> None:
    """What the policies earn before, during and after training, and what they write then."""
    table = Table(title=f"{name}, {len(runs)} seeds")
    for heading in ("", "mean", "standard error"):
        table.add_column(heading, justify="right" if heading else "left")
    last = max(runs[0])
    # Nothing else is measured before training.
    (held_out,) = runs[0][0]
    score, distinct = "critic/score/mean", "shape_grpo/distinct_candidates"
    rows = {
        "held-out reward before training": [run[0][held_out] for run in runs],
        "training reward, all updates": [
            statistics.mean(run[step][score] for step in range(1, last + 1)) for run in runs
        ],
        "held-out reward after training": [run[last][held_out] for run in runs],
        "entropy of a token, last update": [run[last]["actor/entropy"] for run in runs],
        "distinct candidates, last update": [run[last][distinct] for run in runs],
    }
    for name, values in rows.items():
        error = "-"
        if len(values) > 1:
            error = f"{statistics.stdev(values) / len(values) ** 0.5:.3f}"
        table.add_row(name, f"{statistics.mean(values):.3f}", error)
    console.print(table)


if __name__ == "__main__":
    main()
