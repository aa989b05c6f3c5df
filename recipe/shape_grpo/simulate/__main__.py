"""Training in this process: ``python -m recipe.shape_grpo.simulate catalogue --output FOLDER``.

Each seed leaves the folder of a run, FOLDER/seed-N.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from recipe.shape_grpo.command import CommandParser, add_settings, choose, failing_in_one_line
from recipe.shape_grpo.methods import credit_options
from recipe.shape_grpo.runs.folder import begin_run, end_run, write_metrics
from recipe.shape_grpo.simulate import catalogue
from recipe.shape_grpo.simulate.catalogue import CatalogueSettings, Metrics, train


def main(arguments: list[str] | None = None) -> None:
    """Train, write the runs and print what they earned."""
    summary = "Training in this process, without Ray and vLLM."
    name, arguments = choose("simulate", ("catalogue",), summary, arguments)
    parser = CommandParser(
        prog=f"simulate {name}", description=(catalogue.__doc__ or "").splitlines()[0]
    )
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
        history = train(settings, console)
        for seed, metrics in history.items():
            write_run(output / f"seed-{seed}", settings, seed, metrics)
    print_table(settings, history, console)
    console.print(f"Metrics: {output}/seed-*/", soft_wrap=True)


def write_run(run: Path, settings: CatalogueSettings, seed: int, metrics: Metrics) -> None:
    """Write the folder of one seed's run; what an earlier one left there goes."""
    begin_run(run)
    for step, data in metrics.items():
        write_metrics(run, step, data)
    end_run(run, settings.run(seed), {"settings": asdict(settings)})


def print_table(settings: CatalogueSettings, history: dict[int, Metrics], console: Console) -> None:
    """What the policies earn before, during and after training, and what they write then."""
    table = Table(title=f"{settings.task}, {settings.name}, {len(history)} seeds")
    for heading in ("", "mean", "standard error"):
        table.add_column(heading, justify="right" if heading else "left")
    runs, last = list(history.values()), settings.updates
    score, distinct = "critic/score/mean", "shape_grpo/distinct_candidates"
    rows = {
        "held-out reward before training": [run[0][settings.held_out] for run in runs],
        "training reward, all updates": [
            statistics.mean(run[step][score] for step in range(1, last + 1)) for run in runs
        ],
        "held-out reward after training": [run[last][settings.held_out] for run in runs],
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
